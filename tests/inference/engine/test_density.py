"""The log joint as a function of one vector: its sites, its precision, the way to values and back, what is refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, infer
from posterity.inference.engine import Density
from posterity.inference.engine.density import JointDensity, PointDensity
from tests.inference.engine.cases import CASES, TWO, X64, Y64, X, Y, covariance, covariance_of_three, regression


def test_sites_lie_one_after_another_in_unconstrained_space():
    """Two standard deviations and the factor of a correlation matrix of two: three numbers, of 2 and 2 x 2."""
    density = Density(covariance, (TWO, TWO))
    assert density.dim == 3
    assert [(s.name, s.start, s.size, s.shape) for s in density.sites] == [
        ("sd", 0, 2, (2,)),
        ("factor", 2, 1, (2, 2)),
    ]


def test_the_log_determinant_belongs_to_the_density_of_a_vector_and_not_to_an_objective():
    """s ~ Gamma(3, 2) as s = exp(q): log p(q) = log p(s) + q; the largest s has the prior's mode, (3 - 1) / 2."""

    def model(x, y=None):
        s = pyro.sample("s", dist.Gamma(3.0, 2.0))
        return pyro.sample("y", dist.Normal(0.0 * s * x[:, 0], 1.0).to_event(1), obs=y)

    q = torch.tensor([0.3])
    likelihood = dist.Normal(0.0, 1.0).log_prob(Y).sum()
    prior = dist.Gamma(3.0, 2.0).log_prob(q.exp()).sum()
    torch.testing.assert_close(Density(model, (X, Y))(q), likelihood + prior + q[0])
    objective = PointDensity(model, (X, Y))
    torch.testing.assert_close(objective(q), likelihood + prior)
    assert float(torch.func.grad(objective)(torch.zeros(1))) == pytest.approx(0.0, abs=1e-6)


def test_a_joint_density_has_the_log_determinants_of_the_sites_and_not_of_the_parameters():
    """scale = exp(q0) is a parameter, s = exp(q1) a site: log p(y, s) + q1."""

    def model(x, y=None):
        scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        s = pyro.sample("s", dist.Gamma(3.0, 2.0))
        return pyro.sample("y", dist.Normal(s * x[:, 0], scale).to_event(1), obs=y)

    q = torch.tensor([0.3, -0.7])
    s = q[1].exp()
    expected = dist.Gamma(3.0, 2.0).log_prob(s) + q[1] + dist.Normal(s * X[:, 0], q[0].exp()).log_prob(Y).sum()
    torch.testing.assert_close(JointDensity(model, (X, Y))(q), expected)


def test_an_objective_has_the_parameters_of_the_model_too():
    def model(x, y=None):
        scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(w * x[:, 0], scale).to_event(1), obs=y)

    objective = PointDensity(model, (X, Y))
    assert [site.name for site in objective.sites] == ["scale", "w"]
    q = torch.tensor([0.3, -0.7])
    expected = dist.Normal(0.0, 1.0).log_prob(q[1]) + dist.Normal(q[1] * X[:, 0], q[0].exp()).log_prob(Y).sum()
    torch.testing.assert_close(objective(q), expected)
    pyro.clear_param_store()


# Precision


def test_float64_data_that_the_model_cannot_take_are_said_once_with_the_way_out():
    with pytest.warns(RuntimeWarning, match=r"log joint has dtype float64 .* float32.*y.to\(torch.float32\)") as caught:
        density = Density(regression, (X64.float(), Y64))  # float32 x times float64 w is refused by torch
    assert len(caught) == 1
    assert density.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("method", [HMC, NUTS])
def test_draws_of_float64_data_are_float64_and_the_engine_is_kept_in_attrs(method):
    settings = {"chains": 2, "warmup": 2, "draws": 2, "progress": False, "engine": "eager"}
    posterior = infer(regression, X64, Y64, method=method(**settings))
    assert {value.dtype for value in posterior.draws.values()} == {torch.float64}
    assert posterior.predictive(X64).mean.dtype == torch.float64
    expected = {"tier": "eager", "engine": "eager", "tier_reason": ""}
    assert expected.items() <= posterior.attrs.items()


# What is refused, and values of sites


def observed_only(x, y=None):
    return pyro.sample("y", dist.Normal(x[:, 0], 1.0).to_event(1), obs=y)


def discrete(x, y=None):
    k = pyro.sample("k", dist.Poisson(0.5))
    return pyro.sample("y", dist.Normal(k * x[:, 0], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (observed_only, "expected a model with latent sites to sample, got none"),
        (discrete, "expected continuous latent sites, or .* finite support can be enumerated, got 'k'"),
    ],
)
def test_models_without_a_continuous_site_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        Density(model, (X, Y))


def uniform_below(x, y=None):
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    b = pyro.sample("b", dist.Uniform(torch.zeros(()), a))
    return pyro.sample("y", dist.Normal(b * x[:, 0], 1.0).to_event(1), obs=y)


def pareto_above(x, y=None):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Pareto(a.exp(), 3.0).expand([2]).to_event(1))
    return pyro.sample("y", dist.Normal(b.sum() * x[:, 0], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize("model", [uniform_below, pareto_above])
@pytest.mark.parametrize("kind", [Density, PointDensity])
def test_a_support_that_depends_on_another_site_is_refused(kind, model):
    with pytest.raises(ValueError, match=r"the support of 'b' depends on other sites: sample it on \(0, 1\) and scale"):
        kind(model, (X, Y))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sd": torch.ones(2)}, "expected a start for every latent site, got none for 'factor'"),
        ({"sd": torch.ones(3), "factor": torch.eye(2)}, r"expected a start of 'sd' of shape .*2.*, got \(3,\)"),
        ({"sd": -torch.ones(2), "factor": torch.eye(2)}, "expected a start inside the support of 'sd'"),
    ],
)
def test_starts_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Density(covariance, (TWO, TWO)).unconstrain(values)


def test_values_come_back_from_unconstrained_space():
    density = Density(covariance_of_three, CASES["LKJ covariance of three"].args)
    position = torch.randn(4, 3, density.dim)
    values = density.constrain(position)
    assert values["factor"].shape == (4, 3, 3, 3)
    torch.testing.assert_close(density.unconstrain(values), position, rtol=1e-4, atol=1e-4)
