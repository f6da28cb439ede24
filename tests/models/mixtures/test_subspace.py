"""Several targets: moments, marginals, conditionals; and the gradients of samples. Statistical tests: 5 SE, seed 0."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.models import Mixture

KINDS = ("diagonal", "full", "low_rank")


def several(kind, *batch, components=3, targets=4, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.double)

    logits, loc = random(components), 2 * random(components, targets)
    scale = (0.3 * random(components, targets)).exp()
    scale = scale * spread ** torch.linspace(-1, 1, targets, dtype=torch.double)
    loc = loc * spread ** torch.linspace(-1, 1, targets, dtype=torch.double)
    if kind == "diagonal":
        return Mixture.multivariate_normal(logits, loc, scale)
    if kind == "full":
        lower = torch.eye(targets, dtype=torch.double) + random(components, targets, targets).tril(-1)
        return Mixture.multivariate_normal(logits, loc, scale.unsqueeze(-1) * lower)
    factor = scale.unsqueeze(-1) * random(components, targets, 2)
    return Mixture(dist.Categorical(logits=logits), dist.LowRankMultivariateNormal(loc, factor, scale**2))


kinds = pytest.mark.parametrize("kind", KINDS)


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


@kinds
@pytest.mark.parametrize("spread", [1.0, 1e3])
@pytest.mark.parametrize("given_targets", [0, [2], [3, 1], [1, 0, 2]])
def test_joint_is_marginal_times_conditional(kind, spread, given_targets):
    """p(y) = p(y_a) p(y_b | y_a), at draws, also for targets with units a million apart."""
    mixture = several(kind, 5, spread=spread)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = mixture.sample(torch.Size([7]))
    indices = [given_targets] if isinstance(given_targets, int) else given_targets
    rest = [d for d in range(4) if d not in indices]
    value = y[..., given_targets]
    conditional = mixture.conditional(given_targets, value)
    others = y[..., rest[0]] if len(rest) == 1 else y[..., rest]
    assert conditional.batch_shape == (7, 5)
    assert conditional.event_shape == (() if len(rest) == 1 else (len(rest),))
    total = mixture.marginal(given_targets).log_prob(value) + conditional.log_prob(others)
    torch.testing.assert_close(total, mixture.log_prob(y), rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 1000), st.permutations(range(4)), st.integers(1, 3))
def test_marginals_of_conditionals_are_conditionals_of_marginals(kind, seed, order, count):
    a, b = order[0], sorted(order[1 : 1 + count])
    mixture = several(kind, 2, seed=seed)
    value = mixture.mean[..., a] + 0.5
    rest = [d for d in range(4) if d != a]
    left = mixture.conditional(a, value)
    left = left.marginal([rest.index(d) for d in b]) if left.event_shape else left
    right = mixture.marginal([a, *b]).conditional(0, value)
    point = mixture.mean[..., b[0]] if not right.event_shape else mixture.mean[..., b]
    left_point = point if not left.event_shape or right.event_shape else point.unsqueeze(-1)
    torch.testing.assert_close(left.log_prob(left_point), right.log_prob(point))


@kinds
def test_moments_of_marginals_are_parts_of_the_moments(kind):
    mixture = several(kind, 3)
    part = mixture.marginal([2, 0])
    torch.testing.assert_close(part.mean, mixture.mean[..., [2, 0]])
    torch.testing.assert_close(part.covariance_matrix, mixture.covariance_matrix[..., [2, 0], :][..., [2, 0]])
    one = mixture.marginal(-1)
    torch.testing.assert_close(one.variance, mixture.variance[..., 3])
    torch.testing.assert_close(one.cdf(one.icdf(0.3)), torch.full((3,), 0.3, dtype=torch.double))


@kinds
def test_tempered_and_affine_hold_for_several_targets(kind):
    mixture = several(kind, 2)
    tempered = mixture.tempered(0.25)
    torch.testing.assert_close(tempered.component_distribution.mean, mixture.component_distribution.mean)
    torch.testing.assert_close(tempered.component_distribution.variance, 0.25 * mixture.component_distribution.variance)
    moved = mixture.affine(torch.arange(4.0).double(), torch.tensor([1.0, 2.0, 0.5, 3.0]).double())
    rows = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()
    torch.testing.assert_close(moved.covariance_matrix, rows[:, None] * mixture.covariance_matrix * rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.marginal(4), r"expected targets from -4 to 3, got 4"),
        (lambda m: m.marginal([]), r"expected targets from -4 to 3, got \[\]"),
        (lambda m: m.marginal([1, -3]), r"expected each target once, got \[1, -3\]"),
        (lambda m: m.conditional([0, 1, 2, 3], torch.zeros(4)), "expected targets that leave others, got all of 4"),
        (lambda m: m.conditional([0, 1], torch.zeros(3)), r"expected a value of shape \(5, 2\), got \(3,\)"),
        (lambda m: m.conditional(0, torch.zeros(3)), r"expected a value of shape \(5,\), got \(3,\)"),
    ],
)
def test_bad_targets_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(several("full", 5))


def test_one_target_has_no_covariance_and_no_marginal():
    one = Mixture.normal(torch.zeros(2), torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"expected several targets for a covariance, got event shape \(\)"):
        _ = one.covariance_matrix
    with pytest.raises(ValueError, match=r"expected a mixture of several targets, got event shape \(\)"):
        one.marginal(0)


@pytest.mark.parametrize(
    ("logits", "loc", "scale", "message"),
    [
        ((3,), (3, 2), (3,), r"got \(3, 2\) and \(3,\)"),
        ((2,), (3, 2), (3, 2), r"expected logits of shape \(..., 3\), got \(2,\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(logits, loc, scale, message):
    with pytest.raises(ValueError, match=message):
        Mixture.multivariate_normal(torch.zeros(logits), torch.zeros(loc), torch.ones(scale))


# Gradients of samples


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


# Entropy


def test_entropy_is_that_of_a_normal_within_its_own_error():
    mixture = Mixture.normal(torch.zeros(4, 1), torch.zeros(4, 1), torch.tensor([[0.1], [1.0], [5.0], [1e4]]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value, error = mixture.sampled_entropy(20_000)
    exact = 0.5 * math.log(2 * math.pi * math.e) + torch.tensor([0.1, 1.0, 5.0, 1e4]).log()
    assert bool(((value - exact).abs() < 5 * error).all())
    # Of a normal, log p has a standard deviation of sqrt(1/2).
    torch.testing.assert_close(error, torch.full((4,), math.sqrt(0.5 / 20_000)), rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="expected at least 2 draws, got 1"):
        mixture.entropy(1)


@kinds
def test_expanding_keeps_the_kind_and_the_numbers(kind):
    mixture = several(kind, 2)
    wide = mixture.expand(torch.Size([5, 3, 2]))
    assert isinstance(wide, Mixture)
    assert wide.batch_shape == (5, 3, 2)
    torch.testing.assert_close(wide.mean, mixture.mean.expand(5, 3, 2, 4))
    y = mixture.mean
    torch.testing.assert_close(wide.log_prob(y), mixture.log_prob(y).expand(5, 3, 2))
