"""The recorded potential is the model's: value and gradient, for models of every kind, away from the start."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model

from posterity.inference import infer
from posterity.inference.mcmc.potential import capture
from posterity.inference.mcmc.reference import NUTS
from posterity.models import bayesian, gaussian, mixture_head, mlp, priors

SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
X, Y = torch.linspace(-1, 1, 8)[:, None], torch.linspace(-1, 2, 8)
NET, HEAD = mlp(1, 4, 6, seed=0), mixture_head(2)
NET1 = mlp(1, 4, 1, seed=0)


def eight_schools(sigma, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * raw)
        return pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def nested_plates(x, y=None):
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    with pyro.plate("rows", 4, dim=-2):
        row = pyro.sample("row", dist.Normal(0.0, scale))
        with pyro.plate("columns", 2, dim=-1):
            cell = pyro.sample("cell", dist.Laplace(row, 1.0))
            return pyro.sample("y", dist.StudentT(4.0, cell, 1.0), obs=y)


def mixture_density(x, y=None):
    features = bayesian("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", HEAD(features), obs=y)


def hierarchical_network(x, y=None):
    features = bayesian("net", NET1, {"": priors.HierarchicalNormal(), "output": priors.Horseshoe()})(x)
    noise = pyro.sample("noise", dist.Gamma(2.0, 2.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def dirichlet(x, y=None):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("components", 3):
        loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(loc, 0.5)), obs=y)


def covariance(x, y=None):
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
    corr = pyro.sample("corr", dist.LKJCholesky(2, 1.5))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=scale[:, None] * corr), obs=y)


def masked(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=x[:, 0] > 0.2):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x[:, 0], 1.0), obs=y)


def with_factor(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.factor("pull", -5.0 * (w - 1.0) ** 4)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 1.0), obs=y)


def bounded(x, y=None):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    u = pyro.sample("u", dist.Uniform(-2.0, 5.0))
    s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(u + p * x[:, 0], s), obs=y)


def scaled(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)), pyro.poutine.scale(scale=3.0):
        return pyro.sample("y", dist.Poisson((w * x[:, 0]).exp()), obs=y)


MODELS = {
    "eight schools": (eight_schools, (SIGMA, EFFECT)),
    "nested plates": (nested_plates, (X, torch.randn(4, 2))),
    "mixture density": (mixture_density, (X, Y)),
    "hierarchical network": (hierarchical_network, (X, Y)),
    "Dirichlet mixture": (dirichlet, (X, Y)),
    "LKJ covariance": (covariance, (X, torch.randn(8, 2))),
    "mask": (masked, (X, Y)),
    "factor": (with_factor, (X, Y)),
    "bounded sites": (bounded, (X, Y)),
    "scale": (scaled, (X, torch.arange(8.0))),
}


def value_and_gradient(potential, point):
    point = {name: value.detach().clone().requires_grad_() for name, value in point.items()}
    value = potential(point)
    return value.detach(), torch.autograd.grad(value, list(point.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.double], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_recording_is_the_model(name, dtype):
    model, args = MODELS[name]
    torch.set_default_dtype(dtype)
    try:
        if dtype == torch.double and "net" in name.replace("density", "network"):
            pytest.skip("the networks of this file are float32")
        args = tuple(value.to(dtype) for value in args)
        start, potential, _, _ = initialize_model(model, args)
        recorded = capture(potential, start)
        assert recorded is not potential
        rtol = 1e-4 if dtype == torch.float32 else 1e-10
        for spread in (0.0, 0.3, 1.0):
            point = {n: v + spread * torch.randn_like(v) for n, v in start.items()}
            expected, gradients = value_and_gradient(potential, point)
            found, recorded_gradients = value_and_gradient(recorded, point)
            torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol)
            largest = max(g.abs().max() for g in gradients).item()
            for mine, theirs in zip(recorded_gradients, gradients, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=rtol, atol=rtol * max(1.0, largest))
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_gradient_is_scaled_by_what_follows():
    start, potential, _, _ = initialize_model(masked, (X, Y))
    recorded = capture(potential, start)
    point = {n: v.detach().clone().requires_grad_() for n, v in start.items()}
    (once,) = torch.autograd.grad(recorded(point), [point["w"]])
    (thrice,) = torch.autograd.grad(3 * recorded(point), [point["w"]])
    torch.testing.assert_close(thrice, 3 * once)


def branching(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    slope = w if w > 0 else -3 * w
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=y)


def random(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0] + torch.randn(len(x)), 1.0), obs=y)


@pytest.mark.parametrize("model", [branching, random], ids=["branch", "random numbers"])
def test_what_cannot_be_recorded_is_run_with_one_warning(model):
    start, potential, _, _ = initialize_model(model, (X, Y))
    with pytest.warns(RuntimeWarning, match="the model is run at every step, because it cannot be recorded") as caught:
        used = capture(potential, start)
    assert len(caught) == 1
    assert used is potential


def test_a_branching_model_is_sampled_all_the_same():
    """Both chains, by the slower way, and correct on either side of the branch."""
    with pytest.warns(RuntimeWarning, match="cannot be recorded"):
        posterior = infer(branching, X, Y, method=NUTS(draws=50, warmup=50, progress=False), seed=1)
    w = posterior.draws["w"]
    slope = torch.where(w > 0, w, -3 * w)
    log_joint = torch.distributions.Normal(0.0, 1.0).log_prob(w) + torch.distributions.Normal(
        slope[..., None] * X[:, 0], 1.0
    ).log_prob(Y).sum(-1)
    torch.testing.assert_close(posterior.sample_stats["lp"].float(), log_joint, rtol=1e-4, atol=1e-4)


def test_recording_leaves_warnings_and_validation_as_they_were():
    start, potential, _, _ = initialize_model(masked, (X, Y))
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture(potential, start)
    assert [w for w in caught if not issubclass(w.category, DeprecationWarning)] == []
    assert warnings.filters == filters
    assert torch.distributions.Distribution._validate_args
