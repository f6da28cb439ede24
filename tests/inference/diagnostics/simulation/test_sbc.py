"""Ranks of truths: uniform for exact posteriors, and each fault seen by the quantity that depends on it.

The exact posteriors are those of a line with normal noise, in closed form. Bars: 1e-3 for what is right, which refuses
it once in 1,000 runs (the seeds are fixed), 1e-6 for what is wrong.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.data import Observations, Standardization
from posterity.inference import NUTS, SVI, Ensemble, infer
from posterity.inference.diagnostics import pit_ecdf
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.inference.diagnostics.simulation.sbc import sbc
from posterity.inference.mcmc import batched
from posterity.models import mixture_density

RIGHT, WRONG = 1e-3, 1e-6
X = torch.linspace(0.0, 1.0, 6).double()
NOISE = 0.5
DESIGN = torch.stack([torch.ones(6).double(), X], 1)
PRECISION = DESIGN.T @ DESIGN / NOISE**2 + torch.eye(2).double()
COVARIANCE = torch.linalg.inv(PRECISION)


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x, NOISE), obs=y)


def closed_form(*, width=1.0, shift=0.0, root=None, draws=99):
    """Draws of the posterior, ``width`` times as wide and ``shift`` standard deviations off."""
    root = torch.linalg.cholesky(COVARIANCE) if root is None else root

    def posterior(y):
        mean = y @ DESIGN @ COVARIANCE / NOISE**2 + shift * COVARIANCE.diagonal().sqrt()
        return mean[:, None] + width * torch.randn(len(y), draws, 2, dtype=torch.double) @ root.T

    return posterior


MEAN_FIELD = PRECISION.diagonal().rsqrt().diag()  # the optimum of independent normals, in closed form


def run(posterior, **settings):
    chosen = {"count": 250, "seed": 1, "progress": False} | settings
    return sbc(line, X, posterior_draws=posterior, **chosen)


def smallest(result, quantity):
    at = result.sel(quantity=quantity)
    return min(float(at.p_value_ks), float(at.p_value_chi2))


# The truth is uniform, faults are not


def test_ranks_of_an_exact_posterior_are_uniform():
    result = run(closed_form())
    assert float(result.p_value) > RIGHT
    assert list(result["quantity"].values) == ["w[0]", "w[1]", "log_likelihood"]
    assert result["rank"].shape == (250, 3)
    assert (int(result["rank"].min()), int(result["rank"].max())) == (0, 99)
    for name in result["quantity"].values:
        assert pit_ecdf(result.sel(quantity=name), prob=0.999).attrs["outside"] == 0


def test_false_alarms_are_as_many_as_they_should_be():
    """Exact posteriors, 200 times with 60 simulations: each test rejects at 5 % within 4 standard errors (6.2 %)."""
    rng = np.random.default_rng(0)
    found = {"p_value_ks": 0, "p_value_chi2": 0}
    for _ in range(200):
        result = sbc(as_refits(rng.normal(size=(60, 1)), rng.normal(size=(60, 19, 1))), seed=int(rng.integers(2**31)))
        for name in found:
            found[name] += int(result[name][0] < 0.05)
    for count in found.values():
        assert abs(count / 200 - 0.05) < 4 * (0.05 * 0.95 / 200) ** 0.5


@pytest.mark.parametrize(
    ("fault", "test", "says"),
    [
        ({"width": 0.5}, "p_value_chi2", "narrow"),
        ({"width": 2.0}, "p_value_chi2", "wide"),
        ({"shift": 0.6}, "p_value_ks", "high"),
    ],
)
def test_wrong_posteriors_are_detected_in_every_parameter(fault, test, says):
    """And the ranks say which way: at the ends of narrow ones, in the middle of wide ones, low in those too high."""
    result = run(closed_form(**fault))
    rank = result["rank"].values[:, 0]
    at_the_ends = float(((rank < 10) | (rank >= 90)).mean())
    ways = {"narrow": at_the_ends > 0.4, "wide": at_the_ends < 0.1, "high": rank.mean() < 40}
    assert [way for way, seen in ways.items() if seen] == [says]
    assert bool((result[test].sel(quantity=["w[0]", "w[1]"]) < WRONG).all())
    assert float(result.p_value) < WRONG


def test_mean_field_is_too_narrow_where_weights_are_correlated():
    """Its width is sqrt(1 - rho^2) of the marginal one: rho = -0.76 here. The level in the middle is right even so."""
    result = run(closed_form(root=MEAN_FIELD), at=torch.tensor([0.5]).double(), sites=["w"])
    assert smallest(result, "w[0]") < WRONG
    assert smallest(result, "w[1]") < WRONG


def test_a_posterior_that_ignores_the_data_is_seen_by_the_log_likelihood_alone():
    """The prior has perfect ranks in all parameters (Modrák et al. 2023, section 2)."""

    def prior(y):
        return torch.randn(len(y), 99, 2, dtype=torch.double)

    result = run(prior)
    assert smallest(result, "w[0]") > RIGHT
    assert smallest(result, "w[1]") > RIGHT
    assert smallest(result, "log_likelihood") < WRONG


def test_a_wrong_correlation_is_seen_by_a_function_of_both():
    """The marginals are right; the sum, and the log likelihood, are not."""
    result = run(
        closed_form(root=COVARIANCE.diagonal().sqrt().diag()),
        test_quantities={"sum": lambda values, y: values["w"].sum()},
        sites=["w"],
    )
    assert smallest(result, "w[0]") > RIGHT
    assert smallest(result, "w[1]") > RIGHT
    assert smallest(result, "sum") < WRONG


# The numbers


def as_refits(truth, draws):
    return xr.Dataset(
        {"truth": (("simulation", "quantity"), truth), "draws": (("simulation", "draw", "quantity"), draws)}
    )


def test_ranks_are_those_of_a_loop_by_hand():
    """Simulate, draw, count: by the model, torch and the Gaussian density written out."""
    quantities = {"product": lambda values, y: values["w"].prod() * y.mean()}
    result = run(closed_form(), count=40, test_quantities=quantities, sites=["w"])
    drawn = simulate(line, X, count=40, seed=1)
    refits = refit(line, X, posterior_draws=closed_form(), count=40, seed=1, sites=["w"], progress=False)

    def numbers(w, y):
        score = stats.norm.logpdf(y, w[0] + w[1] * X.numpy(), NOISE).sum()
        return [w[0], w[1], w[0] * w[1] * y.mean(), score]

    for i in range(40):
        y, truth = drawn.y[i].numpy(), drawn.latents["w"][i].numpy()
        own, ranks = numbers(truth, y), [0, 0, 0, 0]
        for draw in refits["draws"].values[i, :, :2]:
            for place, value in enumerate(numbers(draw, y)):
                ranks[place] += int(value < own[place])
        assert result["rank"].values[i].tolist() == ranks


def test_ties_are_broken_at_random():
    """Counts 0 to 3 in truth and draws alike: exchangeable, and uniform only if ties are shared out."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, 4, size=(2000, 20, 1)).astype(float)
    result = sbc(as_refits(values[:, 0], values[:, 1:]))
    assert float(result.p_value) > RIGHT
    lowest = (values[:, 1:] < values[:, :1]).sum(1)
    highest = 19 - (values[:, 1:] > values[:, :1]).sum(1)
    assert bool(((result["rank"].values >= lowest) & (result["rank"].values <= highest)).all())


def test_pit_is_the_rank_made_continuous_and_p_values_are_scipy_s():
    rng = np.random.default_rng(2)
    result = sbc(as_refits(rng.normal(size=(100, 1)), rng.normal(size=(100, 19, 1))), seed=4)
    np.testing.assert_array_equal(np.floor(result["pit"] * 20), result["rank"])
    rank, pit = result["rank"].values[:, 0], result["pit"].values[:, 0]
    assert float(result.p_value_ks[0]) == stats.kstest(pit, "uniform").pvalue
    assert float(result.p_value_chi2[0]) == stats.chisquare(np.bincount(rank, minlength=20)).pvalue
    expected = min(1.0, 2 * min(float(result.p_value_ks[0]), float(result.p_value_chi2[0])))
    assert float(result.p_value) == expected


def test_bins_of_unequal_numbers_of_ranks_expect_in_proportion():
    """101 ranks in 20 bins: with the ranks in equal numbers the statistic is zero, and p is 1."""
    truth = np.tile(np.arange(101), 2)[:, None] - 0.5
    draws = np.broadcast_to(np.arange(100.0)[None, :, None], (202, 100, 1))
    result = sbc(as_refits(truth, draws))
    assert sorted(result["rank"].values[:, 0]) == sorted(np.tile(np.arange(101), 2))
    assert float(result.p_value_chi2[0]) > 1 - 1e-9


def test_too_few_simulations_for_bins_have_no_chi_squared_test():
    result = sbc(as_refits(np.zeros((5, 1)), np.ones((5, 9, 1))))
    assert np.isnan(float(result.p_value_chi2[0]))
    assert float(result.p_value) == float(result.p_value_ks[0]) < 0.01


def test_same_seed_same_result():
    one, again, other = (run(closed_form(), count=50, seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(one, again)
    assert not one["rank"].equals(other["rank"])


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (3.0, {}, r"expected a model, or a Dataset as refit\(\) returns, got float"),
        (xr.Dataset({"truth": ("simulation", [1.0])}), {}, "expected a Dataset with 'truth' and 'draws'"),
        (as_refits(np.zeros((3, 1)), np.zeros((3, 0, 1))), {}, "expected truth over"),
        (as_refits(np.zeros((3, 1)), np.ones((3, 4, 1))).rename(quantity="q"), {}, "expected truth over"),
        (as_refits(np.full((3, 1), np.nan), np.ones((3, 4, 1))), {}, "expected finite truth, got 3 of 3"),
        (as_refits(np.zeros((3, 1)), np.full((3, 4, 1), np.inf)), {}, "expected finite draws, got 12 of 12"),
        (as_refits(np.zeros((3, 1)), np.ones((3, 4, 1))), {"seed": -1}, "expected seed"),
        (as_refits(np.zeros((3, 1)), np.ones((3, 4, 1))), {"count": 3}, r"no inputs or settings of refit\(\)"),
    ],
)
def test_bad_input_is_refused(source, settings, message):
    with pytest.raises(ValueError, match=message):
        sbc(source, **settings)


# This project's inference


def test_nuts_has_uniform_ranks_and_not_with_the_data_of_another(monkeypatch):
    """80 data sets in one batch of chains; then each chain with the data of the data set before its own."""
    method = NUTS(chains=4, warmup=60, draws=80)
    settings = {"method": method, "count": 80, "draws": 29, "batched": True, "progress": False, "seed": 2}
    result = sbc(line, X, **settings)
    assert float(result.p_value) > RIGHT
    assert result.attrs["too_few"] == 0
    prepare = batched.prepare_chain_data

    def confused(density, data, *others, **keywords):
        return prepare(density, data.roll(4, 0), *others, **keywords)

    monkeypatch.setattr(batched, "prepare_chain_data", confused)
    assert float(sbc(line, X, **settings).p_value) < WRONG


@pytest.mark.slow
def test_nuts_one_data_set_after_another():
    """As a user would run it, adaptation and all: 60 refits."""
    method = NUTS(chains=4, warmup=100, draws=100, engine="replay")
    result = sbc(line, X, method=method, count=60, draws=29, seed=3, progress=False)
    assert float(result.p_value) > RIGHT
    assert result.attrs["too_few"] == 0


@pytest.mark.slow
def test_mean_field_svi_is_too_narrow_where_weights_are_correlated_and_right_where_not():
    """30 refits each: of a line far from its origin (correlation -0.95), and of one with the origin in its middle."""
    method = SVI(guide="mean_field", steps=300, learning_rate=0.05, draws=99)
    settings = {"method": method, "count": 30, "seed": 4, "progress": False}
    far, centred = sbc(line, 2.0 + 2.0 * X, **settings), sbc(line, 2.0 * X - 1.0, **settings)
    assert smallest(far, "w[0]") < RIGHT
    assert smallest(far, "w[1]") < RIGHT
    assert float(centred.p_value) > 0.01


def neural_posterior(steps):
    """Two mixture density networks from the data to the slope that made them, trained on 3,000 simulations."""

    def slope(x, y=None):
        b = pyro.sample("b", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(b * x, NOISE), obs=y)

    x = X.float()
    train = simulate(slope, x, count=3000, seed=100)
    scale = Standardization.fit(Observations(train.y, train.latents["b"]))
    pair = mixture_density(scale, components=2, hidden=(16,))
    method = Ensemble(members=2, steps=steps, learning_rate=0.02, batch_size=200, threads=1, progress=False)
    trained = infer(pair, train.y, train.latents["b"], method=method, seed=0)

    def posterior_draws(y):
        return trained.predictive(y).sample(torch.Size([99])).T

    return sbc(slope, x, posterior_draws=posterior_draws, count=250, seed=5, progress=False)


def test_a_trained_conditional_density_is_calibrated_and_a_half_trained_one_is_not():
    """At 1e-3 and 1e-6 again. 250 data sets need one call of the network."""
    assert float(neural_posterior(300).p_value) > RIGHT
    assert float(neural_posterior(10).p_value) < WRONG
