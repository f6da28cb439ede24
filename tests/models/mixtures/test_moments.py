"""Means, variances and covariances of mixtures, against integrals, samples and torch."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given

from posterity.models import (
    Mixture,
)
from tests.mixture_cases import (
    CONTINUOUS,
    common,
    integral,
    kinds,
    mixture_of,
    mixtures,
    numbers,
    several,
    von_mises_mixture,
)


def test_moments_with_an_event_dimension_are_torchs():
    weights, loc = torch.randn(5, 3), torch.randn(5, 3, 2)
    parts = dist.Normal(loc, loc.exp()).to_event(1)
    mixture = Mixture(dist.Categorical(logits=weights), parts)
    reference = dist.MixtureSameFamily(dist.Categorical(logits=weights), parts)
    torch.testing.assert_close(mixture.mean, reference.mean)
    torch.testing.assert_close(mixture.variance, reference.variance)
    y = torch.randn(5, 2)
    r = mixture.responsibilities(y)
    by_hand = torch.softmax(torch.log_softmax(weights, -1) + parts.log_prob(y[:, None]), -1)
    torch.testing.assert_close(r, by_hand)
    with pytest.raises(ValueError, match=r"expected a scalar event for icdf, got event shape \(2,\)"):
        mixture.icdf(0.5)


@given(mixtures)
def test_variance_splits_within_and_between(mixture):
    """Against E[Y²] - E[Y]² by hand: the two parts are each non-negative and sum to the whole."""
    weights = mixture.log_weights.exp()
    loc, scale = mixture.component_distribution.loc, mixture.component_distribution.scale
    mean = (weights * loc).sum()
    whole = (weights * (scale**2 + (loc - mean) ** 2)).sum()
    assert mixture.within_component >= 0 <= mixture.between_component
    torch.testing.assert_close(mixture.within_component + mixture.between_component, whole)
    torch.testing.assert_close(mixture.within_component, (weights * scale**2).sum())


def test_classes_without_an_order_have_no_mean():
    """torch returns NaN, which would propagate silently; the log_prob of each class is defined."""
    classes = Mixture(
        dist.Categorical(torch.ones(4, 2)), dist.Categorical(torch.tensor([0.2, 0.3, 0.5]).expand(4, 2, 3))
    )
    for name in ("mean", "variance", "stddev", "within_component", "between_component"):
        with pytest.raises(ValueError, match=r"expected components with a (mean|variance), got Categorical"):
            getattr(classes, name)
    torch.testing.assert_close(classes.log_prob(torch.tensor(2)).exp(), torch.full((4,), 0.5))


@pytest.mark.parametrize("family", [*CONTINUOUS, "poisson"])
@common
@given(values=numbers())
def test_moments_are_integrals(family, values):
    """Mean and variance to 1e-5 of the standard deviation: Student's t has 1e-7 of its variance beyond the nodes."""
    mixture = mixture_of(family, values)
    mean, variance = float(mixture.mean), float(mixture.variance)
    assert float(integral(mixture, lambda y: y)) == pytest.approx(mean, rel=1e-6, abs=1e-5 * math.sqrt(variance))
    assert float(integral(mixture, lambda y: (y - mean) ** 2)) == pytest.approx(variance, rel=1e-5)


def test_angles_have_circular_moments():
    mixture = von_mises_mixture()
    x = torch.linspace(-math.pi, math.pi, 200_001, dtype=torch.double)[:-1]
    weight = mixture.log_prob(x).exp() * (x[1] - x[0])
    resultant = torch.complex((weight * x.cos()).sum(), (weight * x.sin()).sum())
    torch.testing.assert_close(mixture.mean, resultant.angle())
    torch.testing.assert_close(mixture.variance, 1 - resultant.abs())
    assert float(mixture.between_component) > 0
    whole = mixture.within_component + mixture.between_component
    torch.testing.assert_close(whole, mixture.variance)


@kinds
def test_covariance_is_that_of_samples_and_its_diagonal_the_variance(kind):
    mixture = several(kind, 2)
    with pyro.poutine.block(), torch.random.fork_rng():
        torch.manual_seed(0)
        y = mixture.sample(torch.Size([200_000]))
    centred = y - mixture.mean
    products = centred[..., :, None] * centred[..., None, :]
    error = products.std(0) / math.sqrt(len(y))
    assert bool(((products.mean(0) - mixture.covariance_matrix).abs() < 5 * error).all())
    torch.testing.assert_close(mixture.covariance_matrix.diagonal(dim1=-2, dim2=-1), mixture.variance)
