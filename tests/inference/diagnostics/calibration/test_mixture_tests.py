"""Score tests of components: the derivatives are those of autograd, the level is kept, each fault is its own."""

import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Laplace, LogNormal, StudentT

from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import mixture_tests
from posterity.inference.diagnostics.sources.mixture_scores import _scores_of_rows
from posterity.models.mixtures import Mixture

DOUBLE = {"dtype": torch.double}
WEIGHTS, LOC, SCALE = [0.4, 0.6], [-1.5, 1.5], [1.0, 1.0]


def mixture(n, weights=WEIGHTS, loc=LOC, scale=SCALE):
    logits, loc, scale = (torch.tensor(value, **DOUBLE) for value in (weights, loc, scale))
    return Mixture.normal(logits.log(), loc, scale).expand([n])


def samples(count, n, seed):
    torch.manual_seed(seed)
    return mixture(n).sample((count,))


@pytest.mark.parametrize("family", ["normal", "t", "laplace", "lognormal"])
def test_scores_are_the_gradient_of_the_log_density(family):
    torch.manual_seed(0)
    logits, loc = torch.randn(4, 3, **DOUBLE), torch.randn(4, 3, **DOUBLE)
    scale, y = torch.rand(4, 3, **DOUBLE) + 0.5, torch.rand(4, **DOUBLE) * 2 + 0.1
    theta = torch.zeros(3, 3, **DOUBLE, requires_grad=True)  # log width, place in widths, log odds

    def components(loc, scale):
        if family == "t":
            return StudentT(torch.full_like(loc, 5.0), loc, scale)
        return {"normal": torch.distributions.Normal, "laplace": Laplace, "lognormal": LogNormal}[family](loc, scale)

    def build(theta):
        return Mixture(
            Categorical(logits=logits + theta[2]), components(loc + scale * theta[1], scale * theta[0].exp())
        )

    expected = torch.stack([torch.autograd.grad(build(theta).log_prob(y)[row], theta)[0] for row in range(4)])
    found = _scores_of_rows(build(theta.detach()), y, 1)
    torch.testing.assert_close(found, expected.flatten(1))


def test_the_level_is_kept():
    """200 repetitions of 300 values: each joint test rejects 5 %, within 3 standard errors (seed 1)."""
    p = np.array(
        [mixture_tests(mixture(300), y, seed=k).joint_p_value.values for k, y in enumerate(samples(200, 300, 1))]
    )
    assert (np.abs((p < 0.05).mean(0) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 200)).all()


@pytest.mark.parametrize(
    ("fault", "model", "power"),
    [
        ("width", {"scale": [0.8, 0.8]}, 0.85),
        ("shift", {"loc": [-1.5, 1.9]}, 0.65),
        ("weight", {"weights": [0.55, 0.45]}, 0.85),
    ],
)
def test_each_fault_is_seen_and_named(fault, model, power):
    """60 repetitions of 300 values (seed 2): the power by 2 standard errors, and the smallest p-value its own."""
    found = [mixture_tests(mixture(300, **model), y, seed=k) for k, y in enumerate(samples(60, 300, 2))]
    p = np.array([one.joint_p_value.values for one in found])
    own = ("width", "shift", "weight").index(fault)
    assert (p[:, own] < 0.05).mean() > power - 2 * np.sqrt(power * (1 - power) / 60)
    assert (p.argmin(1) == own).mean() > 0.85


def test_estimates_are_the_changes_that_are_needed():
    """Small faults of 50,000 values: width 6 %, place .05, log odds .1; 4 standard errors and the second order."""
    torch.manual_seed(3)
    y = mixture(50_000).sample()
    model = mixture(50_000, scale=[1 / 1.06, 1.0])
    found = mixture_tests(model, y).sel(fault="width")
    assert abs(float(found.estimate[0]) - np.log(1.06)) < 4 * float(found.error[0]) + 0.004
    assert float(found.p_value[0]) < 1e-3 < float(found.p_value[1])
    found = mixture_tests(mixture(50_000, loc=[-1.5, 1.45]), y).sel(fault="shift")
    assert abs(float(found.estimate[1]) - 0.05) < 4 * float(found.error[1]) + 0.002


def test_adjusted_tests_accuse_nobody_else():
    """A large fault of the widths: the other tests reject less when adjusted (30 repetitions, seed 5)."""
    model = mixture(300, scale=[0.8, 0.8])
    found = [mixture_tests(model, y, seed=k) for k, y in enumerate(samples(30, 300, 5))]
    alone = np.array([(one.joint_p_value < 0.05).values for one in found]).mean(0)
    adjusted = np.array([(one.adjusted_p_value < 0.05).values for one in found]).mean(0)
    assert adjusted[0] > 0.85
    assert adjusted[1] <= alone[1] + 0.02


def test_draws_of_a_predictive_are_taken_together():
    """Three equal draws are one mixture."""
    torch.manual_seed(6)
    y = mixture(100).sample()
    one = torch.distributions.MixtureSameFamily(
        Categorical(logits=torch.tensor(WEIGHTS, **DOUBLE).log().expand(3, 100, 2)),
        torch.distributions.Normal(torch.tensor(LOC, **DOUBLE).expand(3, 100, 2), torch.ones(3, 100, 2, **DOUBLE)),
    )
    several, single = mixture_tests(PredictiveMixture.from_draws(one), y), mixture_tests(mixture(100), y)
    assert several.sizes["component"] == 2
    np.testing.assert_allclose(several.estimate, single.estimate, rtol=0.15)  # the covariance is of other draws
    np.testing.assert_allclose(several.weight, WEIGHTS)


def test_unused_components_are_nan_and_said():
    model = mixture(100, weights=[0.999, 0.001])
    with pytest.warns(UserWarning, match="1 of 2 components are expected fewer than 5 times in 100 observations"):
        found = mixture_tests(model, torch.linspace(-3, 0, 100))
    assert np.isfinite(found.p_value.sel(component=0, fault=["width", "shift"])).all()
    assert np.isnan(found.p_value.sel(component=1)).all()
    assert np.isnan(found.joint_p_value.sel(fault="weight"))


@pytest.mark.parametrize("rare", [0.01, 1e-6])
def test_rare_components_do_not_change_the_level(rare):
    """200 repetitions of 300 values (seed 11): the test of the other weights rejects 5 %, within 3 standard errors."""
    model = mixture(300, [0.6, 0.4 - rare, rare], [-2.0, 2.0, 6.0], [1.0, 1.0, 1.0])
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = np.array([mixture_tests(model, y, seed=k).joint_p_value.values for k, y in enumerate(model.sample((200,)))])
    assert abs((p[:, 2] < 0.05).mean() - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 200)


def test_doubles_count_once():
    """Two equal components are one: the same statistic and p-value as of one, whose level is kept (seed 12)."""
    one, two = mixture(200, [1.0], [0.0], [1.0]), mixture(200, [0.5, 0.5], [0.0, 0.0], [1.0, 1.0])
    torch.manual_seed(12)
    for y in one.sample((20,)):
        single, double = mixture_tests(one, y), mixture_tests(two, y)
        np.testing.assert_allclose(double.joint_p_value[:2], single.joint_p_value[:2], rtol=0.1)  # simulated: 3 %
        assert np.isnan(double.joint_p_value.sel(fault="weight"))
        assert np.isnan(double.estimate.sel(fault="weight")).all()


def test_scores_beyond_numbers_are_infinite():
    found = mixture_tests(mixture(20), torch.full((20,), 1e200, **DOUBLE))
    assert np.isposinf(found.joint.sel(fault="width"))
    assert float(found.joint_p_value.sel(fault="width")) == 0
    assert (found.p_value.sel(fault="width", component=1) == 0).all()


def test_blocks_do_not_change_the_sums(monkeypatch):
    y = samples(1, 100, 7)[0]
    whole = mixture_tests(mixture(100), y)
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 4000)
    np.testing.assert_allclose(mixture_tests(mixture(100), y).estimate, whole.estimate, rtol=0.15)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="expected at least 8 observations for mixture tests, got 5"):
        mixture_tests(mixture(5), torch.zeros(5))
    counts = Mixture(Categorical(logits=torch.zeros(20, 2)), torch.distributions.Poisson(torch.ones(20, 2)))
    with pytest.raises(ValueError, match=r"expected Normal, LogNormal, .* components for mixture tests, got Poisson"):
        mixture_tests(counts, torch.ones(20))
    with pytest.raises(ValueError, match="expected a Mixture for mixture tests, got draws"):
        mixture_tests(np.zeros((5, 20)), np.zeros(20))
    with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more, got -1"):
        mixture_tests(mixture(20), torch.zeros(20), seed=-1)
