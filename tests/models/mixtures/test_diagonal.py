"""Mixtures of normals of independent targets: densities and gradients by formula against torch's recording."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from posterity.models import Mixture, multivariate_mixture_head
from posterity.models.mixtures import diagonal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def by_torch(mixture: Mixture) -> MixtureSameFamily:
    normal = mixture.component_distribution.base_dist
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), Independent(Normal(normal.loc, normal.scale), 1))


@pytest.mark.parametrize("targets", [1, 2, 20])
def test_density_and_gradients_are_those_of_torch(targets):
    """In units of the data; one log-scale is above the largest one, where its gradient is 0."""
    head = multivariate_mixture_head(3, targets, covariance="diagonal")
    features, y = noise(4, 7, head.features), noise(4, 7, targets, seed=1)
    features[0, 0, -1] = 40.0
    loc, scale, weight = noise(targets, seed=2), noise(targets, seed=3).exp(), noise(4, 7, seed=4)
    features.requires_grad_(), y.requires_grad_()
    found, slow = head.in_units(features, loc, scale), head(features).affine(loc, scale)
    assert diagonal.applies_to_vectors(found._logits, found.component_distribution, y)
    ours, theirs = found.log_prob(y), by_torch(slow).log_prob(y)
    torch.testing.assert_close(ours, theirs)
    own, other = (torch.autograd.grad(value, (features, y), weight) for value in (ours, theirs))
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    assert float(own[0][0, 0, -1]) == 0.0


@pytest.mark.parametrize("targets", [2, 20])
def test_first_and_second_derivatives_are_differences(targets):
    head = multivariate_mixture_head(2, targets, covariance="diagonal")
    arguments = 0.5 * noise(3, head.features + 1), noise(3, targets, seed=1)  # one feature more than the head reads
    loc, scale = noise(targets, seed=2), noise(targets, seed=3).exp()

    def density(features, y):
        return head.in_units(features, loc, scale).log_prob(y)

    for argument in arguments:
        argument.requires_grad_()
    assert torch.autograd.gradcheck(density, arguments)
    assert torch.autograd.gradgradcheck(density, arguments)


def test_under_transforms_of_torch_the_result_is_the_same():
    head = multivariate_mixture_head(3, 2, covariance="diagonal")
    features, y, loc, scale = noise(5, 6, head.features), noise(6, 2, seed=1), noise(2), noise(2).exp()

    def total(one):
        return head.in_units(one, loc, scale).log_prob(y).sum()

    values = torch.stack([total(one) for one in features])
    torch.testing.assert_close(torch.func.vmap(total)(features), values)
    rows = [torch.autograd.grad(total(one), one)[0] for one in features.clone().requires_grad_().unbind(0)]
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(total))(features), torch.stack(rows))


def test_many_gradients_at_once_are_those_one_by_one():
    head = multivariate_mixture_head(3, 2, covariance="diagonal")
    features, y = noise(4, head.features).requires_grad_(), noise(4, 2, seed=1)
    log_prob = head.in_units(features, torch.zeros(2).double(), torch.ones(2).double()).log_prob(y)
    at_once = torch.autograd.grad(log_prob, features, torch.eye(4).double(), is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(value, features, retain_graph=True)[0] for value in log_prob]
    torch.testing.assert_close(at_once[0], torch.stack(one_by_one))


def test_points_of_density_zero_have_no_gradient():
    loc = torch.zeros(2, 3, requires_grad=True)
    mixture = Mixture.multivariate_normal(torch.zeros(2), loc, torch.full((2, 3), 1e-20))
    value = mixture.log_prob(torch.full((3,), 1e10))
    assert float(value.detach()) == -torch.inf


def test_it_applies_to_one_vector_of_values_of_independent_normals_alone():
    vectors = Mixture.multivariate_normal(torch.zeros(4, 2), torch.zeros(4, 2, 3), torch.ones(4, 2, 3))
    logits, components = vectors._logits, vectors.component_distribution
    assert diagonal.applies_to_vectors(logits, components, torch.zeros(4, 3))
    assert not diagonal.applies_to_vectors(logits, components, torch.zeros(5, 4, 3))
    assert not diagonal.applies_to_vectors(logits, components, torch.zeros(4, 3).double())
    full = Mixture.multivariate_normal(torch.zeros(2), torch.zeros(2, 3), torch.eye(3).expand(2, 3, 3))
    assert not diagonal.applies_to_vectors(full._logits, full.component_distribution, torch.zeros(3))
    assert not diagonal.has_parts(torch.zeros(5, 14), torch.zeros(2).double(), torch.ones(2))
    assert not diagonal.has_parts(torch.zeros(5, 14), torch.zeros(2), torch.ones(2, requires_grad=True))


def test_features_that_are_not_finite_are_refused():
    head = multivariate_mixture_head(2, 2, covariance="diagonal")
    for place in range(3):
        features = torch.zeros(4, head.features)
        features[1, place] = torch.nan
        with pytest.raises(ValueError, match=r"expected logits with a finite maximum|to satisfy the constraint"):
            head.in_units(features, torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"expected loc of shape \(2,\), got \(3,\)"):
        head.in_units(torch.zeros(4, head.features), torch.zeros(3), torch.ones(2))


@pytest.mark.parametrize("covariance", ["full", "low_rank"])
def test_other_covariances_are_transformed_as_distributions(covariance):
    head = multivariate_mixture_head(2, 2, covariance=covariance)
    features, loc, scale = noise(3, head.features).float(), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])
    found, expected = head.in_units(features, loc, scale), head(features).affine(loc, scale)
    torch.testing.assert_close(found.covariance_matrix, expected.covariance_matrix)


def test_one_component_of_each_mixture():
    head = multivariate_mixture_head(3, 2, covariance="diagonal")
    features, index = noise(5, head.features).float(), torch.tensor([0, 2, 1, 1, 0])
    mixture, rows = head(features), torch.arange(5)
    normal = mixture.component_distribution.base_dist
    loc, scale = head.component(features, index)
    torch.testing.assert_close(loc, normal.loc[rows, index])
    torch.testing.assert_close(scale, normal.scale[rows, index])
    torch.testing.assert_close(head.logits(features).log_softmax(-1), mixture.log_weights)
