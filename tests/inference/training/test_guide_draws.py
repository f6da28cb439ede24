"""The guide over one vector: its density, and draws of it, held against Pyro's guide and torch's distributions."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import LowRankMultivariateNormal

from posterity.inference.engine.density import JointDensity
from posterity.inference.training.guide_draws import draw_positions, flat_guide
from posterity.models.guides import empty_guide, make_guide
from posterity.random import seeded


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


def model(y=None):
    a = pyro.sample("a", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2))
    b = pyro.sample("b", dist.LogNormal(0.0, 1.0))
    with pyro.plate("obs", 4):
        return pyro.sample("y", dist.Normal(a.sum() + b, 1.0), obs=y)


Y = torch.arange(4.0)


def made(name):
    guide = make_guide(name, model, init="median", init_scale=0.3, rank=2)
    guide(Y)
    with torch.no_grad(), seeded(0):  # away from the symmetric start
        for _, leaf in pyro.get_param_store().named_parameters():
            leaf.add_(0.3 * torch.randn(leaf.shape))
    return guide


def density():
    return JointDensity(model, (Y,))


@pytest.mark.parametrize("name", ["mean_field", "low_rank", "full_rank"])
def test_the_density_of_the_guide_is_that_of_its_run(name):
    """Pyro's density of the values is that of the vector, less the log determinant of b = exp(u), which is u."""
    guide, joint = made(name), density()
    trace = pyro.poutine.trace(guide).get_trace(Y)
    values = {site: trace.nodes[site]["value"] for site in ("a", "b")}
    q = joint.unconstrain(values)
    expected = trace.log_prob_sum() + q[-1]
    torch.testing.assert_close(flat_guide(guide, joint.sites).log_prob(q), expected, rtol=1e-5, atol=1e-4)


def test_a_point_is_the_guides_value_in_unconstrained_space():
    guide, joint = made("map"), density()
    q, log_q = draw_positions(guide, joint.sites, 3)
    assert q.shape == (3, 7)
    torch.testing.assert_close(joint.constrain(q[0]), guide(Y))
    assert torch.equal(log_q, torch.zeros(3))


@pytest.mark.parametrize("name", ["mean_field", "low_rank", "full_rank"])
def test_draws_have_the_moments_and_the_density_of_the_guide(name):
    """100,000 draws (seed 1): means within 5 standard errors, covariances within 5 standard errors of a normal's."""
    guide, joint = made(name), density()
    flat = flat_guide(guide, joint.sites)
    with torch.no_grad(), seeded(1):
        q, log_q = draw_positions(guide, joint.sites, 100_000)
    torch.testing.assert_close(log_q, flat.log_prob(q).detach(), rtol=1e-4, atol=1e-3)
    mean, sd = flat.mean.detach(), flat.variance.detach().sqrt()
    assert ((q.mean(0) - mean).abs() < 5 * sd / 100_000**0.5).all()
    exact = torch.diag(sd**2) if name == "mean_field" else flat.covariance_matrix.detach()
    error = ((exact**2 + torch.outer(sd**2, sd**2)) / 100_000).sqrt()
    assert ((torch.cov(q.T) - exact).abs() < 5 * error).all()


def test_gradients_of_low_rank_draws_are_those_of_torch():
    """The same random numbers: gradients of log density and draws, in float64 to rounding."""
    pyro.get_param_store().clear()
    guide = made("low_rank").double()
    leaves = (guide.loc, guide.scale_unconstrained, guide.cov_factor)
    weights = torch.linspace(-1, 1, 7, dtype=torch.double)

    def gradients(q, log_q):
        return torch.autograd.grad((log_q - q @ weights).sum(), leaves)

    with seeded(2):
        found = gradients(*draw_positions(guide, density().sites, 5))
    with seeded(2):
        scale = guide.scale
        flat = LowRankMultivariateNormal(guide.loc, guide.cov_factor * scale[:, None], scale**2)
        q = flat.rsample((5,))
        exact = gradients(q, flat.log_prob(q))
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_other_guides_and_other_sites_are_refused():
    with pytest.raises(ValueError, match="expected a guide by name, got function"):
        flat_guide(empty_guide, density().sites)
    with pytest.raises(ValueError, match=r"expected sites in the order of the guide, \['a', 'b'\], got \['b', 'a'\]"):
        flat_guide(made("full_rank"), density().sites[::-1])
