"""Gradients of samples, against exact gradients of moments within 5 standard errors, from seed 0."""

import math

import pyro.distributions as dist
import pytest
import torch

from posterity.models import Mixture
from tests.mixture_cases import kinds, several


def test_a_second_derivative_of_samples_is_refused():
    scale = torch.tensor([1.0], requires_grad=True)
    mixture = Mixture.normal(torch.zeros(50, 1), torch.zeros(50, 1), scale.expand(50, 1))
    (first,) = torch.autograd.grad((mixture.rsample() ** 2).mean(), scale, create_graph=True)
    with pytest.raises(RuntimeError, match="expected at most one derivative of a sample of a mixture"):
        torch.autograd.grad(first.sum(), scale)


def scalar_parts(family):
    logits = torch.tensor([0.2, -0.4, 0.9], dtype=torch.double, requires_grad=True)
    loc = torch.tensor([-1.0, 0.3, 0.8], dtype=torch.double, requires_grad=True)
    scale = torch.tensor([0.6, 0.3, 0.4], dtype=torch.double, requires_grad=True)
    return (logits, loc, scale), Mixture(dist.Categorical(logits=logits), getattr(dist, family)(loc, scale))


@pytest.mark.parametrize("family", ["Normal", "Laplace", "LogNormal"])
def test_gradients_of_samples_are_those_of_the_moments(family):
    """d E[Y + Y²/4] for weights, locations and scales, 200,000 draws: each within 5 standard errors of the exact one.

    Draws that only follow their own component would give the weights no gradient at all.
    """
    parameters, mixture = scalar_parts(family)
    weights = mixture.log_weights.exp()
    component = mixture.component_distribution
    exact = torch.autograd.grad((weights * (component.mean + (component.variance + component.mean**2) / 4)).sum(),
                                parameters)  # fmt: skip
    assert mixture.has_rsample
    blocks = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(50):
            _, mixture = (None, Mixture(dist.Categorical(logits=parameters[0]), getattr(dist, family)(*parameters[1:])))
            y = mixture.rsample(torch.Size([4000]))
            blocks.append(torch.stack(torch.autograd.grad((y + y**2 / 4).mean(), parameters)))
    found = torch.stack(blocks)
    error = found.std(0) / math.sqrt(len(blocks))
    assert bool(((found.mean(0) - torch.stack(exact)).abs() < 5 * error).all())
    assert bool((error < 0.05 * torch.stack(exact).abs().max()).all())


@kinds
def test_gradients_of_samples_of_several_targets(kind):
    """d E[y'Ay] with a fixed A that couples the targets, 100,000 draws, 5 standard errors."""
    base = several(kind, targets=3)
    tensors = [base.log_weights.clone(), *(t.clone() for t in _tensors(base))]
    parameters = [t.detach().requires_grad_() for t in tensors]
    a = torch.tensor([[1.0, 0.5, -0.3], [0.0, 0.4, 0.8], [0.0, 0.0, -0.6]], dtype=torch.double)
    mixture = _rebuilt(base, parameters)
    second = mixture.covariance_matrix + mixture.mean[:, None] * mixture.mean
    exact = torch.autograd.grad((a * second).sum(), parameters)
    blocks = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(50):
            y = _rebuilt(base, parameters).rsample(torch.Size([2000]))
            value = torch.einsum("ni,ij,nj->n", y, a, y).mean()
            blocks.append(list(torch.autograd.grad(value, parameters)))
    for number, wanted in enumerate(exact):
        found = torch.stack([block[number] for block in blocks])
        error = found.std(0) / math.sqrt(len(blocks)) + 1e-12
        assert bool(((found.mean(0) - wanted).abs() < 5 * error).all())


def _tensors(mixture):
    component = mixture.component_distribution
    if isinstance(component, dist.MultivariateNormal):
        return component.loc, component.scale_tril
    if isinstance(component, dist.LowRankMultivariateNormal):
        return component.loc, component.cov_factor, component.cov_diag
    return component.base_dist.loc, component.base_dist.scale


def _rebuilt(base, parameters):
    logits, *rest = parameters
    family = type(base.component_distribution)
    if issubclass(family, dist.MultivariateNormal):
        component = dist.MultivariateNormal(rest[0], scale_tril=rest[1].tril())
    elif issubclass(family, dist.LowRankMultivariateNormal):
        component = dist.LowRankMultivariateNormal(*rest)
    else:
        component = dist.Normal(*rest).to_event(1)
    return Mixture(dist.Categorical(logits=logits), component)


def test_rsample_is_sample_with_a_gradient():
    _, mixture = scalar_parts("Normal")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = mixture.sample(torch.Size([5]))
        torch.manual_seed(0)
        moving = mixture.rsample(torch.Size([5]))
    torch.testing.assert_close(moving.detach(), plain)
    assert moving.requires_grad
    assert not plain.requires_grad


def test_components_without_a_gradient_are_refused():
    mixture = Mixture(dist.Categorical(logits=torch.zeros(2)), dist.StudentT(3.0, torch.zeros(2), torch.ones(2)))
    assert not mixture.has_rsample
    with pytest.raises(ValueError, match="for rsample, got StudentT"):
        mixture.rsample()
