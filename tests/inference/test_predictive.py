import contextlib
import itertools
import math
import time
from unittest import mock

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import ExpTransform

from posterity.inference import PredictiveMixture
from posterity.models import Mixture
from posterity.models.parameters import map_parameters
from tests.mixture_cases import common, mixture_of, movable, numbers, rewritten
from tests.test_display import cells

S, N, K = 5, 3, 2
GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.double)


LIKELIHOODS = {
    "Normal": dist.Normal(randn(S, N), randn(S, N).exp()),
    "StudentT": dist.StudentT(5.0, randn(S, N), randn(S, N).exp()),
    "Laplace": dist.Laplace(randn(S, N), randn(S, N).exp()),
    "Poisson": dist.Poisson(randn(S, N).exp()),
    "Categorical": dist.Categorical(logits=randn(S, N, 4)),
    "Mixture": Mixture.normal(randn(S, N, K), randn(S, N, K), randn(S, N, K).exp()),
    "MixtureSameFamily": dist.MixtureSameFamily(
        dist.Categorical(logits=randn(S, N, K)), dist.Laplace(randn(S, N, K), randn(S, N, K).exp())
    ),
    "two targets": dist.Normal(randn(S, N, 2), randn(S, N, 2).exp()).to_event(1),
    "two targets, covariance": dist.MultivariateNormal(
        randn(S, N, 2), scale_tril=torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
    ),
    "mixture of two targets": dist.MixtureSameFamily(
        dist.Categorical(logits=randn(S, N, K)), dist.Normal(randn(S, N, K, 2), randn(S, N, K, 2).exp()).to_event(1)
    ),
    "two plates": dist.Normal(randn(S, N, 4), randn(S, N, 4).exp()),
    "no points": dist.Normal(randn(S), randn(S).exp()),
}
WITH_MOMENTS = [name for name in LIKELIHOODS if name != "Categorical"]


def moments(likelihood, weights):
    """(noise, ambiguity, epistemic) by hand from the K means and variances of each draw."""
    event = len(likelihood.event_shape)
    if isinstance(likelihood, torch.distributions.MixtureSameFamily):
        pi = likelihood.mixture_distribution.probs
        mu, var = likelihood.component_distribution.mean, likelihood.component_distribution.variance
        k = -1 - event
    else:
        pi = torch.ones(*likelihood.batch_shape, 1).double()
        k = -1 - event
        mu, var = likelihood.mean.unsqueeze(k), likelihood.variance.unsqueeze(k)
    pi = pi[(...,) + (None,) * event]
    centre = (pi * mu).sum(k, keepdim=True)
    w = weights.reshape(-1, *[1] * (mu.ndim - 2))
    noise = (w * (pi * var).sum(k)).sum(0)
    ambiguity = (w * (pi * (mu - centre) ** 2).sum(k)).sum(0)
    means = centre.squeeze(k)
    epistemic = (w * (means - (w * means).sum(0)) ** 2).sum(0)
    return noise, ambiguity, epistemic


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_density_is_the_average_of_the_draws_densities(name, weighted):
    likelihood = LIKELIHOODS[name]
    log_weights = torch.linspace(-2, 3, S).double() if weighted else None
    predictive = PredictiveMixture.from_draws(likelihood, log_weights)
    weights = (torch.zeros(S).double() if log_weights is None else log_weights).softmax(0)
    y = likelihood.sample()[0]
    densities = likelihood.log_prob(y).exp()
    expected = (weights.reshape(-1, *[1] * (densities.ndim - 1)) * densities).sum(0)
    torch.testing.assert_close(predictive.log_prob(y).exp(), expected)
    assert predictive.batch_shape == likelihood.batch_shape[1:]
    assert predictive.event_shape == likelihood.event_shape
    assert predictive.num_draws == S


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", WITH_MOMENTS)
def test_each_term_of_the_split_is_right_and_they_sum_to_the_variance(name, weighted):
    likelihood = LIKELIHOODS[name]
    log_weights = torch.linspace(-2, 3, S).double() if weighted else torch.zeros(S).double()
    predictive = PredictiveMixture.from_draws(likelihood, log_weights)
    noise, ambiguity, epistemic = moments(likelihood, log_weights.softmax(0))
    torch.testing.assert_close(predictive.noise, noise)
    torch.testing.assert_close(predictive.ambiguity, ambiguity)
    torch.testing.assert_close(predictive.epistemic, epistemic)
    total = predictive.noise + predictive.ambiguity + predictive.epistemic
    torch.testing.assert_close(total, predictive.variance, rtol=1e-6, atol=1e-12)


def test_a_draw_of_one_component_has_no_ambiguity_and_one_draw_nothing_epistemic():
    assert (PredictiveMixture.from_draws(LIKELIHOODS["Normal"]).ambiguity == 0).all()
    single = Mixture.normal(randn(1, N, K), randn(1, N, K), randn(1, N, K).exp())
    torch.testing.assert_close(PredictiveMixture.from_draws(single).epistemic, torch.zeros(N).double())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_draws_come_back_one_by_one(name):
    likelihood = LIKELIHOODS[name]
    per_draw = PredictiveMixture.from_draws(likelihood, torch.linspace(-2, 3, S).double()).per_draw
    assert per_draw.batch_shape == (*likelihood.batch_shape[1:], S)
    y = likelihood.sample()[0]
    ndim = len(likelihood.batch_shape) - 1
    expected = likelihood.log_prob(y).movedim(0, -1)
    torch.testing.assert_close(per_draw.log_prob(y.unsqueeze(ndim)), expected)


def test_weights_of_the_draws_are_kept_normalised():
    log_weights = torch.tensor([0.0, 1.0, -1.0, 2.0, 5.0]).double()
    predictive = PredictiveMixture.from_draws(LIKELIHOODS["Mixture"], log_weights)
    torch.testing.assert_close(predictive.log_draw_weights, log_weights.log_softmax(0).expand(N, S))


def test_a_draw_of_no_weight_is_as_if_it_were_not_there():
    log_weights = torch.tensor([0.0, -math.inf, 0.0, 0.0, 0.0]).double()
    for name in ("Normal", "Mixture"):
        likelihood = LIKELIHOODS[name]
        without = PredictiveMixture.from_draws(map_parameters(likelihood, lambda tensor: tensor[[0, 2, 3, 4]]))
        predictive = PredictiveMixture.from_draws(likelihood, log_weights)
        for term in ("mean", "variance", "noise", "ambiguity", "epistemic"):
            torch.testing.assert_close(getattr(predictive, term), getattr(without, term))


def test_terms_of_weighted_draws_are_weighted_and_sum_to_the_variance():
    """Of draws N(m_s, s_s²) with weights w_s: noise sum w s², epistemic sum w (m - mean)²."""
    weights = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).double()
    likelihood = LIKELIHOODS["Normal"]
    predictive = PredictiveMixture.from_draws(likelihood, weights.log())
    mean = (weights[:, None] * likelihood.mean).sum(0)
    torch.testing.assert_close(predictive.noise, (weights[:, None] * likelihood.variance).sum(0))
    torch.testing.assert_close(predictive.epistemic, (weights[:, None] * (likelihood.mean - mean) ** 2).sum(0))
    torch.testing.assert_close(predictive.noise + predictive.ambiguity + predictive.epistemic, predictive.variance)


values = st.floats(-20, 20)


@given(
    st.integers(1, 4).flatmap(
        lambda s: st.integers(1, 3).flatmap(
            lambda k: st.tuples(
                *[st.lists(values, min_size=s * k, max_size=s * k) for _ in range(2)], st.just((s, k)), st.floats(0, 1)
            )
        )
    )
)
def test_a_component_in_two_equal_halves_changes_nothing(case):
    """Splitting a component, in whatever proportion, leaves total and epistemic (and the rest) as they were."""
    logits, loc, (s, k), share = case
    logits, loc = (torch.tensor(v, dtype=torch.double).reshape(s, 1, k) for v in (logits, loc))
    share = 1e-6 + share * (1 - 2e-6)
    scale = (loc / 10).exp()
    before = PredictiveMixture.from_draws(Mixture.normal(logits, loc, scale))
    halves = torch.stack([logits[..., -1] + math.log(share), logits[..., -1] + math.log1p(-share)], -1)
    twice = lambda v: torch.cat([v, v[..., -1:]], -1)  # noqa: E731
    after = PredictiveMixture.from_draws(
        Mixture.normal(torch.cat([logits[..., :-1], halves], -1), twice(loc), twice(scale))
    )
    for term in ("mean", "variance", "noise", "ambiguity", "epistemic"):
        torch.testing.assert_close(getattr(after, term), getattr(before, term), rtol=1e-9, atol=1e-9)


def test_temperature_affine_indexing_and_dtype_keep_the_draws_apart():
    predictive = PredictiveMixture.from_draws(LIKELIHOODS["Mixture"])
    for moved in (
        predictive.affine(3.0, 2.0),
        predictive.tempered(0.5),
        predictive[1:],
        predictive.to(torch.float32),
        predictive.expand([4, N]),
    ):
        assert isinstance(moved, PredictiveMixture)
        assert (moved.num_draws, moved.components_per_draw) == (S, K)
    torch.testing.assert_close(predictive.affine(3.0, 2.0).epistemic, 4 * predictive.epistemic)
    torch.testing.assert_close(predictive[1:].ambiguity, predictive.ambiguity[1:])
    torch.testing.assert_close(predictive.expand([4, N]).noise, predictive.noise.expand(4, N))


def test_samples_are_of_the_predictive_distribution():
    """Mean and variance within 4 standard errors of the mixture's; seed 0."""
    predictive = PredictiveMixture.from_draws(LIKELIHOODS["Mixture"])
    n = 20_000
    y = predictive.sample((n,))
    assert y.shape == (n, N)
    assert ((y.mean(0) - predictive.mean).abs() < 4 * (predictive.variance / n).sqrt()).all()
    squares = (y - predictive.mean) ** 2
    assert ((squares.mean(0) - predictive.variance).abs() < 4 * squares.std(0) / math.sqrt(n)).all()


def test_a_likelihood_without_draws_raises():
    with pytest.raises(ValueError, match=r"expected a likelihood of batch shape \(draws, ...\), got a batch shape of"):
        PredictiveMixture.from_draws(dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("shape", [(4,), (5, 1), ()])
def test_weights_of_another_shape_raise(shape):
    with pytest.raises(ValueError, match=r"expected log_draw_weights of shape \(5,\), got"):
        PredictiveMixture.from_draws(LIKELIHOODS["Normal"], torch.zeros(shape))


@pytest.mark.parametrize("num_draws", [0, 4])
def test_components_that_are_not_a_multiple_of_the_draws_raise(num_draws):
    with pytest.raises(ValueError, match=f"expected a multiple of {num_draws} draws' components, got 6"):
        PredictiveMixture(dist.Categorical(logits=torch.zeros(6)), dist.Normal(torch.zeros(6), 1.0), num_draws)


def test_a_transformed_likelihood_has_a_predictive_density_and_says_that_it_has_no_mean():
    """A log-normal written as a transform: density, quantiles and samples are those of the family."""
    scale = torch.tensor([[0.3], [0.5]])
    transformed = dist.TransformedDistribution(dist.Normal(torch.zeros(2, 4), scale), [ExpTransform()])
    one = PredictiveMixture.from_draws(transformed)
    other = PredictiveMixture.from_draws(dist.LogNormal(torch.zeros(2, 4), scale))
    y = torch.tensor([0.5, 1.0, 2.0, 3.0])
    torch.testing.assert_close(one.log_prob(y), other.log_prob(y))
    torch.testing.assert_close(one.cdf(y), other.cdf(y))
    with pytest.raises(ValueError, match="expected components whose mean is known in closed form, got Transformed"):
        one.mean  # noqa: B018


@movable
@common
@given(data=st.data())
def test_the_variance_splits_as_before_when_components_or_draws_are_divided(family, data):
    """Noise, ambiguity and epistemic: draws that divide the same component, and a draw that is there twice."""
    draws = torch.stack([data.draw(numbers(most=1)) for _ in range(3)])
    extra = torch.stack([data.draw(numbers(most=1)) for _ in range(3)])
    values = torch.cat([draws, extra], -1)  # (3 draws, 3 rows, 2 components)
    share = data.draw(st.floats(0.01, 0.99))
    one = PredictiveMixture.from_draws(mixture_of(family, values))
    divided = torch.stack([rewritten(v, 0, share, (2, 0, 1)) for v in values])
    twice = torch.cat([values, values[2:]])
    weights = torch.tensor([1.0, 1.0, share, 1 - share], dtype=torch.double).log()
    others = (
        PredictiveMixture.from_draws(mixture_of(family, divided)),
        PredictiveMixture.from_draws(mixture_of(family, twice), weights),
        PredictiveMixture.from_draws(mixture_of(family, values[[2, 0, 1]])),
    )
    for other, name in itertools.product(others, ("noise", "ambiguity", "epistemic", "variance", "mean")):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.noise + one.ambiguity + one.epistemic, one.variance)


def test_a_notebook_shows_the_moments_of_the_first_rows():
    likelihood = dist.Normal(torch.randn(3, 40), torch.rand(3, 40) + 0.1)
    predictive = PredictiveMixture.from_draws(likelihood)
    assert repr(predictive) == "PredictiveMixture(40 rows, 3 draws of 1 component each, Normal)"
    shown = np.array([float(cell) for cell in cells(predictive._repr_html_())]).reshape(5, 5)
    low, high = predictive.interval(0.9)
    expected = torch.stack([torch.arange(40), predictive.mean, predictive.stddev, low, high], 1)[:5]
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    assert "the first of 40 rows" in predictive._repr_html_()


@pytest.mark.parametrize(
    ("likelihood", "words", "header"),
    [
        (dist.Normal(torch.zeros(3), 1.0), "batch ()", ["row", "mean", "sd", "5 %", "95 %"]),
        (dist.Normal(torch.zeros(3, 2, 4), 1.0), "batch (2, 4)", ["row", "mean", "sd", "5 %", "95 %"]),
        (dist.Normal(torch.zeros(3, 4, 2), 1.0).to_event(1), "4 rows, 3 draws of 1 component each, Normal, 2 targets",
         ["row", "mean", "sd"]),
        (dist.Categorical(logits=torch.zeros(3, 4, 2)), "Categorical", ["row", "P(class 0)", "P(class 1)"]),
        (dist.Poisson(torch.ones(3, 4)), "Poisson", ["row", "mean", "sd", "5 %", "95 %"]),
        (dist.Cauchy(torch.zeros(3, 4), 1.0), "Cauchy", None),
    ],
)  # fmt: skip
def test_a_notebook_shows_every_family(likelihood, words, header):
    predictive = PredictiveMixture.from_draws(likelihood)
    html = predictive._repr_html_()
    assert words in html
    assert header is None or cells(html, "th") == header
    if isinstance(likelihood, dist.Categorical):
        assert cells(html)[:3] == ["0", "0.5", "0.5"]


def test_a_notebook_computes_a_few_rows_of_many():
    rows = 100_000
    loc = torch.randn(50, rows, 1).expand(50, rows, 2)
    predictive = PredictiveMixture.from_draws(Mixture.normal(torch.zeros(2), loc, torch.ones(2)))
    seen = []
    with mock.patch.object(Mixture, "icdf", lambda self, levels: seen.append(self.batch_shape) or self.mean[None] * 0):
        start = time.perf_counter()
        with contextlib.suppress(ValueError):
            predictive._repr_html_()
    assert seen == [torch.Size([5])]
    assert time.perf_counter() - start < 0.5
