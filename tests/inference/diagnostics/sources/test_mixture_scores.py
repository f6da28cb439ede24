"""Scores of components are derivatives of the log likelihood, with their covariance under the model."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Gamma, Laplace, LogNormal, Normal, StudentT

from posterity.inference.diagnostics.sources.mixture import source_of_mixture
from posterity.inference.diagnostics.sources.mixture_scores import (
    SHAPES,
    _scores_of_rows,
    component_scores,
    degrees_of_freedom,
    has_shape,
    shape_of,
    standardise,
)
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

LOC = torch.tensor([[-1.0, 0.0, 2.0]]).double()
SCALE = torch.tensor([[0.5, 1.0, 2.0]]).double()
FAMILIES = {
    "Normal": Normal(LOC, SCALE),
    "LogNormal": LogNormal(LOC, SCALE),
    "StudentT": StudentT(torch.full_like(LOC, 4.0), LOC, SCALE),
    "Laplace": Laplace(LOC, SCALE),
}


def test_every_family_with_a_shape_is_a_case():
    assert {family.__name__ for family in SHAPES} == set(FAMILIES)


@pytest.mark.parametrize("components", FAMILIES.values(), ids=FAMILIES)
def test_the_shape_is_the_density_up_to_a_constant_and_the_slope_its_derivative(components):
    y = torch.linspace(0.3, 4, 9).double()
    z, df, shape = standardise(components, y), degrees_of_freedom(components), shape_of(components)
    density = components.log_prob(y[:, None]) + (y.log()[:, None] if isinstance(components, LogNormal) else 0)
    difference = density - shape.log_density(z, df)
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(shape.log_density(z, df).sum(), z)
    torch.testing.assert_close(shape.slope(z.detach(), df), -slope)


def test_the_sum_of_the_scores_is_the_derivative_of_the_log_likelihood_of_draws_together():
    """Of two draws of two components, by autograd."""
    n = 40
    logits, loc = torch.randn(2, n, 2, 2).double()
    scale = torch.rand(n, 2, 2).double() + 0.3
    change = torch.zeros(3, 2, dtype=torch.double, requires_grad=True)  # log width, place in widths, log odds

    def changed() -> Mixture:
        """Observations (n,) of draws and components (2, 2), flattened to four components."""
        logs = logits.log_softmax(-1) + change[2]
        components = Normal((loc + scale * change[1]).flatten(1), (scale * change[0].exp()).flatten(1))
        return Mixture(Categorical(logits=logs.flatten(1)), components)

    draws = PredictiveMixture.from_draws(Mixture.normal(*(part.movedim(1, 0) for part in (logits, loc, scale))))
    source = source_of_mixture(draws, torch.randn(n), several=False)
    (expected,) = torch.autograd.grad(changed().log_prob(source.y).sum(), change)
    total, covariance, weights = component_scores(source, seed=0)
    np.testing.assert_allclose(total, expected.flatten().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_of_one_normal_the_covariance_is_the_fisher_information():
    """2 for log width, 1 for the place in widths, 0 for log odds, per observation; simulated with errors of 3 %."""
    source = source_of_mixture(Mixture.normal(*torch.ones(3, 500, 1).double()), np.zeros(500), several=False)
    _, covariance, _ = component_scores(source, seed=0)
    np.testing.assert_allclose(covariance / 500, np.diag([2.0, 1.0, 0.0]), atol=0.15)


def test_another_family_has_no_shape():
    gamma = Gamma(torch.ones(1, 2), torch.ones(1, 2))
    assert not has_shape(Mixture(Categorical(torch.ones(1, 2)), gamma))
    with pytest.raises(ValueError, match="expected Normal, LogNormal, StudentT, Laplace components for mixture tests"):
        shape_of(gamma)


DOUBLE = {"dtype": torch.double}


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


def test_families_of_location_and_scale_are_known_by_their_class():
    class Narrow(torch.distributions.Normal):
        pass

    weights = Categorical(logits=torch.zeros(3, 1))
    components = Narrow(torch.zeros(3, 1), torch.ones(3, 1))
    assert has_shape(Mixture(weights, components))
    assert not has_shape(Mixture(weights, Gamma(torch.ones(3, 1), torch.ones(3, 1))))
    with pytest.raises(ValueError, match=r"expected Normal, LogNormal, StudentT, Laplace components .* got Gamma"):
        shape_of(Gamma(torch.ones(3, 1), torch.ones(3, 1)))
