"""Marginal and conditional mixtures of several targets. Statistical tests: 5 standard errors, seed 0."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.models import Mixture
from tests.mixture_cases import KINDS, common, fewer, kinds, lists, several, three_targets


@pytest.mark.parametrize("kind", ["diagonal", "full", "low_rank"])
@common
@given(seed=st.integers(0, 10_000), order=st.permutations(range(3)), point=lists(3, -3, 3))
def test_densities_multiply_in_any_order_of_the_targets(kind, seed, order, point):
    """p(a) p(b | a) p(c | a, b) = p(a, b, c), and conditioning twice is conditioning on both."""
    mixture, y = three_targets(kind, seed), torch.tensor(point, dtype=torch.double)
    a, b, c = order
    given_a = mixture.conditional(a, y[a])
    rest = [d for d in range(3) if d != a]
    given_both = mixture.conditional([a, b], y[[a, b]])
    p_a = mixture.marginal(a).log_prob(y[a])
    p_b = given_a.marginal(rest.index(b)).log_prob(y[b])
    torch.testing.assert_close(p_a + p_b, mixture.marginal([a, b]).log_prob(y[[a, b]]))
    torch.testing.assert_close(p_a + p_b + given_both.log_prob(y[c]), mixture.log_prob(y))
    twice = given_a.conditional(rest.index(b), y[b])
    torch.testing.assert_close(twice.log_prob(y[c]), given_both.log_prob(y[c]))
    torch.testing.assert_close(twice.mean, given_both.mean)
    torch.testing.assert_close(twice.variance, given_both.variance)


@fewer
@given(seed=st.integers(0, 10_000))
def test_a_marginal_is_the_average_of_conditionals(seed):
    """E_a[p(b | a)] over draws of a, at the quartiles of b, within 5 standard errors of p(b)."""
    mixture = three_targets("full", seed)
    b = mixture.marginal(1)
    at = b.icdf(torch.tensor([0.25, 0.5, 0.75]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a = mixture.marginal(0).sample((4000,))
    found = mixture.conditional(0, a).marginal(0).log_prob(at[:, None]).exp()
    error = found.std(1) / math.sqrt(4000)
    assert bool(((found.mean(1) - b.log_prob(at).exp()).abs() < 5 * error).all())


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.marginal(4), r"expected targets from -4 to 3, got 4"),
        (lambda m: m.marginal([]), r"expected targets from -4 to 3, got \[\]"),
        (lambda m: m.marginal([1, -3]), r"expected each target once, got \[1, -3\]"),
        (
            lambda m: m.conditional([0, 1, 2, 3], torch.zeros(4)),
            "expected targets to leave at least one other, got all 4",
        ),
        (lambda m: m.conditional([0, 1], torch.zeros(3)), r"expected value of shape \(5, 2\), got \(3,\)"),
        (lambda m: m.conditional(0, torch.zeros(3)), r"expected value of shape \(5,\), got \(3,\)"),
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
