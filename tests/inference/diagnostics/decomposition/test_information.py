"""Entropy and mutual information: against closed forms, quadrature, hand numbers and SciPy."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from posterity.inference import SVI, PredictiveMixture, infer
from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics.decomposition.information import information_split
from posterity.inference.diagnostics.sources import mixture_information as _mixture_information
from posterity.models.mixtures import Mixture

TERMS = ("total_entropy", "expected_entropy", "mutual_information", "noise_entropy", "ambiguity")
HALF = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a standard normal


def normals(loc, scale) -> PredictiveMixture:
    loc, scale = (torch.as_tensor(value, dtype=torch.double) for value in (loc, scale))
    return PredictiveMixture.from_draws(dist.Normal(loc, scale))


# Numbers


def test_one_normal_has_its_closed_form_exactly():
    split = information_split(normals([[0.0, 1000.0]], [[1.0, 1e-3]]))
    np.testing.assert_allclose(split.total_entropy, [HALF, HALF + math.log(1e-3)], rtol=1e-12)
    np.testing.assert_allclose(split.expected_entropy, split.total_entropy, rtol=1e-12)
    assert split.mutual_information.values.tolist() == [0.0, 0.0]
    assert float(split.total_entropy_se.max()) == 0.0
    assert split.total_entropy.dims == ("obs",)


def test_draws_far_apart_tell_all_there_is():
    """Which of S draws y came from is plain: I = log S, and H = log S + H of one."""
    split = information_split(normals(1e3 * torch.arange(7.0)[:, None].expand(7, 2), torch.tensor(2.0)))
    np.testing.assert_allclose(split.mutual_information, math.log(7), rtol=1e-9)
    np.testing.assert_allclose(split.total_entropy, math.log(7) + HALF + math.log(2), rtol=1e-9)
    np.testing.assert_allclose(split.ambiguity, 0.0, atol=1e-12)


def test_components_far_apart_within_a_draw_are_ambiguity():
    loc = torch.tensor([[[0.0, 1e3, 2e3]], [[5e3, 6e3, 7e3]]]).double()  # two draws of three components
    predictive = PredictiveMixture.from_draws(Mixture.normal(torch.zeros(3).double(), loc, torch.ones(1).double()))
    split = information_split(predictive)
    found = [float(split[name][0]) for name in TERMS]
    expected = [math.log(6) + HALF, math.log(3) + HALF, math.log(2), HALF, math.log(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("components", [1, 3])
def test_draws_that_agree_say_nothing(components):
    one = Mixture.normal(torch.randn(1, 4, components), torch.randn(1, 4, components), torch.rand(1, 4, components) + 1)
    split = information_split(PredictiveMixture.from_draws(one.expand(torch.Size([50, 4]))))
    np.testing.assert_allclose(split.mutual_information, 0.0, atol=1e-12)
    np.testing.assert_allclose(split.mutual_information_se, 0.0, atol=1e-12)


def by_quadrature(predictive: PredictiveMixture) -> dict[str, float]:
    """Of a single point; y over 12 standard deviations on either side of every component."""
    components = predictive.component_distribution
    loc, scale = components.mean.flatten(), components.stddev.flatten()
    y = torch.linspace(float((loc - 14 * scale).min()), float((loc + 14 * scale).max()), 200_001).double()

    def entropy(mixture: Mixture) -> torch.Tensor:
        """Of a batch (S,)."""
        log_prob = torch.stack([mixture[i].log_prob(y) for i in range(len(mixture.mean))])
        return torch.as_tensor(integrate.simpson(-(log_prob.exp() * log_prob).numpy(), y.numpy()))

    per_draw = predictive.per_draw
    draws = map_draws(per_draw)
    total = float(entropy(predictive)[0])
    expected = float((predictive.log_draw_weights[0].exp() * entropy(draws)).sum())
    noise = float((predictive.log_weights[0].exp() * components.entropy()[0]).sum())
    values = (total, expected, total - expected, noise, expected - noise)
    return dict(zip(TERMS, values, strict=True))


def map_draws(per_draw: Mixture) -> Mixture:
    """The mixtures of one point's draws, batch (1, S), as a batch (S,)."""
    parts = per_draw.component_distribution
    return Mixture.normal(per_draw.log_weights[0], parts.loc[0], parts.scale[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_all_terms_agree_with_quadrature(weighted):
    """200 points of the same mixture: the mean is within 4 standard errors of the integral, and these are honest.

    The root mean square of (estimate - truth) / error over 200 points is chi with 200 degrees of freedom, 1 ± 0.05;
    strata make it smaller, never larger. Seed 3.
    """
    generator = torch.Generator().manual_seed(3)
    logits, loc, log_scale = (torch.randn(4, 1, 3, generator=generator).double() for _ in range(3))
    draws = torch.tensor([0.1, -1.0, 0.7, 0.0]).double() if weighted else None
    one = PredictiveMixture.from_draws(Mixture.normal(logits, 2 * loc, log_scale.exp()), draws)
    truth = by_quadrature(one)
    many = information_split(one.expand(torch.Size([200])), samples=64, seed=3)
    for name in TERMS:
        error = many[f"{name}_se"]
        assert float(many[name].mean()) == pytest.approx(
            truth[name], abs=4 * float((error**2).sum()) ** 0.5 / 200 + 1e-9
        ), name
        if float(error.max()) > 1e-12:
            pulls = (many[name] - truth[name]) / error
            assert 0.5 < float((pulls**2).mean()) ** 0.5 < 1.25, name
    assert float(many.noise_entropy_se.max()) == 0.0


def test_the_terms_sum_up():
    split = information_split(
        PredictiveMixture.from_draws(Mixture.normal(*torch.randn(2, 5, 4, 3).abs(), torch.ones(1)))
    )
    np.testing.assert_allclose(split.expected_entropy + split.mutual_information, split.total_entropy, atol=1e-10)
    np.testing.assert_allclose(split.noise_entropy + split.ambiguity, split.expected_entropy, atol=1e-10)


def test_a_family_without_a_known_entropy_is_sampled():
    """Poisson: sums over the counts, to 4 standard errors; seed 0."""
    rates = torch.tensor([[1.0], [4.0], [20.0]]).double()
    split = information_split(PredictiveMixture.from_draws(dist.Poisson(rates.expand(3, 100))), samples=200)
    probabilities = stats.poisson(rates.numpy()).pmf(np.arange(200))
    expected = stats.entropy(probabilities, axis=1).mean()
    total = stats.entropy(probabilities.mean(0))
    for name, truth in zip(TERMS, (total, expected, total - expected, expected, 0.0), strict=True):
        allowed = 4 * float((split[f"{name}_se"] ** 2).sum()) ** 0.5 / 100 + 1e-9
        assert float(split[name].mean()) == pytest.approx(truth, abs=allowed), name


def test_several_targets_are_taken_together():
    """Two draws that differ in one of two targets, each independent: the information is that of the one target."""
    loc = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]]).double().expand(2, 100, 2)
    joint = information_split(PredictiveMixture.from_draws(dist.Normal(loc, 1.0).to_event(1)), samples=64)
    single = information_split(normals(loc[..., 0], torch.tensor(1.0)), samples=64)
    errors = [float((split.mutual_information_se**2).sum()) ** 0.5 / 100 for split in (joint, single)]
    difference = float(joint.mutual_information.mean() - single.mutual_information.mean())
    assert abs(difference) < 4 * math.hypot(*errors)
    np.testing.assert_allclose(joint.expected_entropy, 2 * HALF, rtol=1e-12)


def test_normals_by_a_matrix_product_are_those_of_the_density():
    """The same numbers from the family's own log_prob, with means far from 0 and scales far apart; seed 1."""
    generator = torch.Generator().manual_seed(1)
    loc = 1e4 + 5 * torch.randn(20, 6, generator=generator).double()
    scale = torch.randn(20, 6, generator=generator).double().mul(2).exp()
    log_weights = torch.randn(6, 20, generator=generator).double().log_softmax(-1)
    components = dist.Normal(loc.T, scale.T)
    y = components.sample(torch.Size([3]))[..., 0]
    found = _mixture_information._joint(components, log_weights, y)
    torch.testing.assert_close(found, components.log_prob(y[..., None]) + log_weights, rtol=1e-6, atol=1e-6)


def test_draws_of_no_weight_and_values_out_of_range_do_not_count():
    """A third draw of no weight changes nothing; of a log-normal nothing is below 0, which is no nan."""
    loc = torch.tensor([[0.0], [2.0], [50.0]]).double().expand(3, 200)
    weights = torch.tensor([0.0, 0.0, -torch.inf])
    with_none = information_split(PredictiveMixture.from_draws(dist.Normal(loc, 1.0), weights), samples=64)
    without = information_split(normals(loc[:2], torch.tensor(1.0)), samples=64)
    difference = float(with_none.mutual_information.mean() - without.mutual_information.mean())
    assert abs(difference) < 4 * math.sqrt(2) * float((without.mutual_information_se**2).sum()) ** 0.5 / 200
    narrow = dist.Uniform(torch.tensor([[0.0], [10.0]]).double(), torch.tensor([[1.0], [11.0]]).double())
    apart = information_split(PredictiveMixture.from_draws(narrow), samples=8)
    np.testing.assert_allclose(apart.mutual_information, math.log(2), rtol=1e-9)


def test_blocks_and_seeds(monkeypatch, tmp_path):
    predictive = PredictiveMixture.from_draws(Mixture.normal(*torch.randn(2, 5, 7, 3).abs(), torch.ones(1)))
    whole = information_split(predictive, samples=20, seed=4)
    xr.testing.assert_identical(information_split(predictive, samples=20, seed=4), whole)
    assert not np.allclose(information_split(predictive, samples=20, seed=5).total_entropy, whole.total_entropy)
    whole.to_netcdf(tmp_path / "information.nc", engine="h5netcdf")
    monkeypatch.setattr(_mixture_information, "BLOCK", 15)  # one row, and a sample at a time
    rows = information_split(predictive, samples=20, seed=4)
    errors = np.hypot(rows.mutual_information_se, whole.mutual_information_se)
    assert bool((abs(rows.mutual_information - whole.mutual_information) < 6 * errors).all())


def test_samples_keep_within_their_budget():
    assert information_split(normals(torch.zeros(2, 3), torch.tensor(1.0))).attrs["samples"] == 512
    large = normals(torch.zeros(1, 1), torch.tensor(1.0)).expand(torch.Size([10_000_000]))
    assert _mixture_information.default_samples(large) == 30


# Classes


HAND = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]])


def test_classes_by_hand():
    split = information_split(HAND)
    two_thirds = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    np.testing.assert_allclose(split.total_entropy, [two_thirds, math.log(2)], rtol=1e-14)
    np.testing.assert_allclose(split.expected_entropy, [0.0, math.log(2)], atol=1e-15)
    np.testing.assert_allclose(split.mutual_information, [two_thirds, 0.0], atol=1e-15)
    np.testing.assert_allclose(split.max_probability, [2 / 3, 0.5])
    np.testing.assert_allclose(split.variation_ratio, [1 / 3, 0.0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), draws=st.integers(1, 6), classes=st.integers(2, 5), sharp=st.floats(0.01, 20))
def test_classes_equal_scipys_entropies(seed, draws, classes, sharp):
    logits = sharp * np.random.default_rng(seed).normal(size=(draws, 4, classes))
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, -1, keepdims=True))
    split = information_split(probabilities)
    mean = probabilities.mean(0)
    np.testing.assert_allclose(split.total_entropy, stats.entropy(mean, axis=-1), atol=1e-12)
    np.testing.assert_allclose(split.expected_entropy, stats.entropy(probabilities, axis=-1).mean(0), atol=1e-12)
    divergence = stats.entropy(probabilities, mean[None], axis=-1).mean(0)
    np.testing.assert_allclose(split.mutual_information, divergence, atol=1e-12)
    assert bool((split.mutual_information >= 0).all())
    assert bool((split.mutual_information <= math.log(min(draws, classes)) + 1e-12).all())


def test_the_information_of_numbers_becomes_that_of_classes():
    """Normals far apart, one for each class: y is the class. Two ways to the same number, to 4 standard errors."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    logits = torch.as_tensor(probabilities).log()[:, None].expand(2, 50, 3)
    loc = 1e3 * torch.arange(3.0).double()
    numbers = information_split(PredictiveMixture.from_draws(Mixture.normal(logits, loc, torch.ones(1).double())))
    classes = information_split(probabilities[:, None])
    error = float((numbers.mutual_information_se**2).sum()) ** 0.5 / 50
    assert abs(float(numbers.mutual_information.mean() - classes.mutual_information[0])) < 4 * error
    assert error < 0.002


def test_likelihoods_of_classes_are_their_probabilities():
    logits = torch.randn(6, 5, 3)
    expected = information_split(logits.softmax(-1))
    for family in (dist.Categorical, dist.OneHotCategorical):
        xr.testing.assert_allclose(information_split(family(logits=logits)), expected)
    two = information_split(dist.Bernoulli(logits=logits[..., 0]))
    p = torch.sigmoid(logits[..., 0])
    xr.testing.assert_allclose(two, information_split(torch.stack([1 - p, p], -1)), atol=1e-6)


def test_arviz_data_keep_their_dimensions():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=(2, 10, 4))  # chain, draw, observations
    array = xr.DataArray(p, dims=("chain", "draw", "station", "class"), coords={"station": list("abcd")})
    binary = xr.DataArray(p[..., 0], dims=("chain", "draw", "station"))
    data = from_groups({"posterior": xr.Dataset({"p": array.transpose("station", ...), "q": binary})})
    with pytest.raises(ValueError, match=r"expected var_name to be a variable of probabilities among .*got None"):
        information_split(data)
    split = information_split(from_groups({"posterior": array.to_dataset(name="p")}), var_name="p")
    assert split.total_entropy.dims == ("station",)
    assert split.station.values.tolist() == list("abcd")
    expected = information_split(p.reshape(20, 4, 3))
    np.testing.assert_allclose(split.mutual_information, expected.mutual_information, rtol=1e-12)
    two = information_split(data, var_name="q").total_entropy
    np.testing.assert_allclose(two, stats.entropy([p[..., 0].mean((0, 1)), 1 - p[..., 0].mean((0, 1))]), rtol=1e-12)


def classifier(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def test_a_posterior_knows_less_far_from_its_data():
    x = torch.randn(60, 2)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    posterior = infer(classifier, x, y, method=SVI(steps=300, draws=200, progress=False), seed=0)
    split = information_split(posterior.likelihood(torch.tensor([[0.0, 0.0], [0.1, 0.1], [3.0, -6.0]])))
    assert float(split.mutual_information[0]) < 1e-6  # at 0 every draw gives each class a third
    np.testing.assert_allclose(split.total_entropy[0], math.log(3), rtol=1e-5)
    assert float(split.mutual_information[2]) > 5 * float(split.mutual_information[1])


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (np.ones((3, 4)), {}, r"expected probabilities of shape \(draws, N, classes\), got \(3, 4\)"),
        (np.ones((3, 4, 1)), {}, "expected at least 2 classes, got 1"),
        (np.full((2, 2, 2), 0.6), {}, "expected probabilities in .* sums from 1.2 to 1.2"),
        (np.array([[[1.5, -0.5]]]), {}, "expected probabilities in .* values from -0.5"),
        (np.full((2, 2, 2), np.nan), {}, "expected finite probabilities, got 8 of 8"),
        (HAND, {"samples": 4}, "expected samples only for mixtures, whose entropy has no closed form, got 4"),
        (HAND, {"var_name": "p"}, "expected var_name only with ArviZ data, got 'p' with ndarray"),
        (dist.Bernoulli(torch.ones(2, 2) / 2), {"samples": 4}, "expected samples only for mixtures"),
        (dist.Normal(torch.zeros(3), 1.0), {}, r"expected a likelihood of batch shape \(draws, N\), got \(3,\)"),
        (Mixture.normal(*torch.ones(3, 4, 2)), {}, "expected a PredictiveMixture, .* got Mixture"),
        (normals([[0.0]], [[1.0]]), {"samples": 3}, "expected samples to be an even number, got 3"),
        (normals([[0.0]], [[1.0]]), {"seed": -1}, "expected seed"),
        ("p", {}, "expected a PredictiveMixture, a likelihood, probabilities .* got str"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        information_split(source, **arguments)


def test_arviz_data_without_draws_are_refused():
    data = from_groups({"posterior": xr.Dataset({"p": (("draw", "obs"), np.ones((3, 2)))})})
    with pytest.raises(ValueError, match="expected 'p' with the dimensions chain, draw and others"):
        information_split(data, var_name="p")
