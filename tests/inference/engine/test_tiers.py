"""The engine's log joint and gradient, on every tier, against Pyro's own potential of one chain at a time.

A table of models x tiers at random positions. Tolerance, relative to 1 + |log joint| and to 1 + the largest component
of the gradient: 1e-10 in float64; in float32 2e-5, a hundred times its rounding, for what the order of sums may do.
"""

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from posterity.inference import HMC, NUTS, infer
from posterity.inference.engine import TIERS, Density, Engine, prepare, tiers
from posterity.inference.engine.chains import LanesEngine
from posterity.inference.engine.density import PointDensity
from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes.rules import RULES
from posterity.models import bayesian, gaussian, heteroscedastic_gaussian, mixture_head, mlp, priors

CHAINS = 5
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}

GENERATOR = torch.Generator().manual_seed(0)
X = torch.linspace(-2, 2, 12)[:, None]
Y = torch.sin(2 * X[:, 0]) + 0.3 * torch.randn(12, generator=GENERATOR)
GROUP = torch.arange(12) % 4
COUNT = torch.tensor([0, 1, 5, 2, 0, 7, 3, 1, 4, 2, 6, 0])
LABEL = torch.arange(12) % 3
TWO = torch.randn(12, 2, generator=GENERATOR)
IMAGES = torch.randn(6, 1, 5, 5, generator=GENERATOR)

NET1, NET2, NET3 = mlp(1, 4, 1, seed=0), mlp(1, 4, 2, seed=0), mlp(1, 6, 6, 3, seed=0)
NET6, DOUBLE = mlp(1, 4, 6, seed=0), mlp(1, 4, 1, seed=0).double()
RELU = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6), torch.nn.SiLU())
CONV = torch.nn.Sequential(
    torch.nn.Conv2d(1, 3, 3, padding=1),
    torch.nn.Tanh(),
    torch.nn.AvgPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(12, 2),
)
NORMED = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.LayerNorm(6), torch.nn.GELU(), torch.nn.Linear(6, 1))
HEAD = mixture_head(components=2, floor=0.01)


def network(x, y=None):
    features = bayesian("net", NET1)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def unknown_noise(x, y=None):
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    features = bayesian("net", NET1, priors.Normal(scale=2.0))(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, sigma), obs=y)


def heteroscedastic(x, y=None):
    features = bayesian("net", NET2)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", heteroscedastic_gaussian(features), obs=y)


def two_layers(x, y=None):
    features = bayesian("net", NET3)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.StudentT(3.0, features[:, 0], 1 + features[:, 1:].square().sum(-1)), obs=y)


def mixture_density(x, y=None):
    features = bayesian("net", NET6)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", HEAD(features), obs=y)


def hierarchical_network(x, y=None):
    features = bayesian("net", NET1, priors.HierarchicalNormal())(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def relu_classifier(x, y=None):
    features = bayesian("net", RELU)(x)[:, :3]
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Categorical(logits=torch.log_softmax(features, -1)), obs=y)


def convolutional(x, y=None):
    features = bayesian("net", CONV)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", heteroscedastic_gaussian(features), obs=y)


def layer_norm(x, y=None):
    features = bayesian("net", NORMED)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def double_network(x, y=None):
    features = bayesian("net", DOUBLE)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([1]).to_event(1))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w + b, 0.5), obs=y)


def hierarchical(group, y=None):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("groups", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
    with pyro.plate("obs", len(group)):
        return pyro.sample("y", dist.Normal(theta[group], 0.5), obs=y)


def covariance(nothing, y=None):
    sd = pyro.sample("sd", dist.HalfCauchy(torch.ones(2)).to_event(1))
    factor = pyro.sample("factor", dist.LKJCholesky(2, torch.tensor(2.0)))
    with pyro.plate("obs", len(nothing)):
        return pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=sd[:, None] * factor), obs=y)


def covariance_of_three(nothing, y=None):
    factor = pyro.sample("factor", dist.LKJCholesky(3, torch.tensor(1.5)))
    mean = pyro.sample("mean", dist.MultivariateNormal(torch.zeros(3), scale_tril=torch.eye(3)))
    with pyro.plate("obs", len(nothing)):
        return pyro.sample("y", dist.MultivariateNormal(mean, scale_tril=factor), obs=y)


def dirichlet_mixture(nothing, y=None):
    weight = pyro.sample("weight", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("components", 3):
        loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with pyro.plate("obs", len(nothing)):
        mixed = dist.MixtureSameFamily(dist.Categorical(weight), dist.Normal(loc, scale))
        return pyro.sample("y", mixed, obs=y)


def event(x, y=None):
    w = pyro.sample("w", dist.StudentT(3.0, torch.zeros(2, 3), 1.0).to_event(2))
    return pyro.sample("y", dist.Normal((x * w.sum(0).sum()).squeeze(-1), 1.0).to_event(1), obs=y)


def masked(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=x[:, 0] > 0), pyro.poutine.scale(scale=2.5):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 0.5), obs=y)


def factors(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.factor("cosine", torch.cos(w).sum() - 0.1 * w.abs().sum())
    slope = pyro.deterministic("slope", w.prod())
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.5), obs=y)


def reparametrised(group, y=None):
    with pyro.poutine.reparam(config={"theta": LocScaleReparam(0.0)}):
        return hierarchical(group, y)


def binomial(nothing, y=None):
    with pyro.plate("obs", len(nothing)):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        return pyro.sample("y", dist.Binomial(10, probs=p), obs=y)


def beta_binomial(nothing, y=None):
    a, b = pyro.sample("a", dist.Gamma(2.0, 1.0)), pyro.sample("b", dist.Exponential(1.0))
    with pyro.plate("obs", len(nothing)):
        return pyro.sample("y", dist.BetaBinomial(a, b, 10), obs=y)


def poisson(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Poisson((w[0] + w[1] * x[:, 0]).exp()), obs=y)


def negative_binomial(x, y=None):
    total, w = pyro.sample("total", dist.Gamma(2.0, 1.0)), pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.NegativeBinomial(total, logits=w * x[:, 0]), obs=y)


def logistic(x, y=None):
    w = pyro.sample("w", dist.Laplace(torch.zeros(1), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)


def robust(x, y=None):
    df = pyro.sample("df", dist.Gamma(2.0, 0.1))
    sigma = pyro.sample("sigma", dist.InverseGamma(3.0, 1.0))
    w = pyro.sample("w", dist.Uniform(-3.0, 3.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.StudentT(df, w * x[:, 0], sigma), obs=y)


def skewed(x, y=None):
    skew = pyro.sample("skew", dist.Normal(0.0, 1.0))
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.AsymmetricLaplace(w * x[:, 0], 1.0, skew.exp()), obs=y)


def walk(nothing, y=None):
    steps = pyro.sample("steps", dist.Normal(torch.zeros(12), 1.0).to_event(1))
    level = steps.cumsum(-1)
    with pyro.plate("obs", len(nothing)):
        return pyro.sample("y", dist.Normal(level, 0.5), obs=y)


def autoregressive(nothing, y):
    """A loop over time, as state space models are written."""
    rho, level = pyro.sample("rho", dist.Beta(2.0, 2.0)), pyro.sample("level", dist.Normal(0.0, 1.0))
    for t in range(len(nothing)):
        level = rho * level
        pyro.sample(f"y{t}" if t else "y", dist.Normal(level, 0.5), obs=None if y is None else y[t])


def gaussian_process(x, y=None):
    length, noise = pyro.sample("length", dist.LogNormal(0.0, 0.5)), pyro.sample("noise", dist.HalfNormal(1.0))
    kernel = torch.exp(-0.5 * ((x - x.T) / length) ** 2) + (noise**2 + 0.01) * torch.eye(len(x))
    factor = torch.linalg.cholesky(kernel)
    return pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), scale_tril=factor), obs=y)


def simplices(nothing, y=None):
    """Rows of a transition matrix."""
    with pyro.plate("rows", 3):
        rows = pyro.sample("rows_", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("obs", len(nothing)):
        return pyro.sample("y", dist.Categorical(rows[GROUP % 3]), obs=y)


def flat_prior(x, y=None):
    w = pyro.sample("w", dist.ImproperUniform(dist.constraints.real, (), (2,)))
    sigma = pyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x[:, 0], sigma), obs=y)


def flat_by_mask(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1).mask(False))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0).mask(False))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x[:, 0], sigma), obs=y)


def great_process(x, y=None):
    """A matrix too large to be factorised element by element."""
    return gaussian_process(x.repeat(2, 1) + torch.arange(24)[:, None] / 100, y)


@dataclass(frozen=True)
class Case:
    """A model with its arguments, and whether `lanes` knows all its operations."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    lanes: bool = True
    for_pyro: Callable[..., Any] | None = None  # the same density in a way that Pyro can draw a start from


CASES = {
    "network": Case(network, (X, Y)),
    "unknown noise": Case(unknown_noise, (X, Y)),
    "heteroscedastic": Case(heteroscedastic, (X, Y)),
    "two layers, Student-t": Case(two_layers, (X, Y)),
    "mixture density": Case(mixture_density, (X, Y)),
    "hierarchical network": Case(hierarchical_network, (X, Y)),
    "ReLU classifier": Case(relu_classifier, (X, LABEL)),
    "convolutional": Case(convolutional, (IMAGES, Y[:6])),
    "layer norm": Case(layer_norm, (X, Y)),
    "float64 network": Case(double_network, (X.double(), Y.double())),
    "linear": Case(linear, (X, Y)),
    "hierarchical": Case(hierarchical, (GROUP, Y)),
    "LKJ covariance": Case(covariance, (TWO, TWO)),
    "LKJ covariance of three": Case(covariance_of_three, (TWO, torch.cat([TWO, TWO[:, :1] ** 2], 1))),
    "Dirichlet mixture": Case(dirichlet_mixture, (X, Y)),
    "event dimensions, Student-t": Case(event, (X, Y)),
    "mask and scale": Case(masked, (X, Y)),
    "factor and deterministic": Case(factors, (X, Y)),
    "reparametrised": Case(reparametrised, (GROUP, Y)),
    "beta, binomial": Case(binomial, (X, COUNT.float())),
    "beta-binomial": Case(beta_binomial, (X, COUNT.float())),
    "Poisson": Case(poisson, (X, COUNT.float())),
    "negative binomial": Case(negative_binomial, (X, COUNT.float())),
    "logistic": Case(logistic, (X, (Y > 0).float())),
    "Student-t of unknown tails": Case(robust, (X, Y)),
    "asymmetric Laplace": Case(skewed, (X, Y)),
    "random walk": Case(walk, (X, Y)),
    "loop over time": Case(autoregressive, (X, Y)),
    "Gaussian process": Case(gaussian_process, (X, Y)),
    "great Gaussian process": Case(great_process, (X, Y.repeat(2)), lanes=False),
    "simplices": Case(simplices, (X, LABEL)),
    "flat prior": Case(flat_prior, (X, Y), for_pyro=flat_by_mask),
}


def prepared(name: str, tier: str) -> tuple[Density, Tensor, Engine, list[str]]:
    """The model's engine, random positions for it, and what was warned about."""
    case = CASES[name]
    density = Density(case.model, case.args)
    positions = 0.5 * torch.randn(CHAINS, density.dim, generator=torch.Generator().manual_seed(1), dtype=density.dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = prepare(density, positions, tier=tier, threads=1)
    return density, positions, engine, [str(w.message) for w in caught]


def pyro_s_own(case: Case, density: Density, position: Tensor) -> tuple[Tensor, Tensor]:
    """Log joint and gradient by Pyro's potential, which traces the model as it is written."""
    start, potential, _, _ = initialize_model(case.for_pyro or case.model, case.args)
    assert set(start) == {site.name for site in density.sites}
    leaf = position.clone().requires_grad_()
    free = {s.name: leaf[s.start : s.start + s.size].reshape(start[s.name].shape) for s in density.sites}
    value = -potential(free)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


SLOW = {("Gaussian process", "compiled"), ("great Gaussian process", "compiled")}
TABLE = [
    pytest.param(name, tier, marks=[pytest.mark.slow] if (name, tier) in SLOW else [], id=f"{name}-{tier}")
    for name in CASES
    for tier in TIERS
]


@pytest.mark.parametrize(("name", "tier"), TABLE)
def test_log_joint_and_gradient_are_those_of_pyro(name, tier):
    case = CASES[name]
    density, positions, engine, said = prepared(name, tier)
    # Away from where it was recorded: what a recording has frozen would show.
    for points in (positions, 1.7 * positions.flip(0) - 0.2):
        values, gradients = engine.gradient(points)
        for chain in range(CHAINS):
            value, gradient = pyro_s_own(case, density, points[chain])
            tolerance = TOLERANCE[density.dtype]
            assert abs(values[chain] - value) <= tolerance * (1 + abs(value))
            assert (gradients[chain] - gradient).abs().max() <= tolerance * (1 + gradient.abs().max())
    # What lanes does not know, torch.compile does, and says so; what TorchScript does not, the recorded graph.
    assert engine.tier == tier
    assert engine.kind == (tier if tier != "compiled" else "lanes" if case.lanes else "inductor")
    assert isinstance(engine, LanesEngine) == (engine.kind == "lanes")
    if engine.kind == "inductor":
        assert said == [f"the model runs by torch.compile instead of lanes: {engine.reason}"]
        assert engine.reason == "Unsupported: operation linalg_cholesky_ex"
    else:
        assert not said
        assert engine.reason == ""


def spread(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    return pyro.sample("y", dist.Normal(w.var() * x[:, 0], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(("tier", "kind"), [("compiled", "inductor"), ("auto", "replay")])
def test_a_lane_rule_that_is_wrong_is_said_whether_or_not_the_tier_was_asked_for(monkeypatch, tier, kind):
    """The numbers stay right, from a slower engine: here `var` forgets its correction."""
    var = RULES["var"]
    monkeypatch.setitem(RULES, "var", lambda x, dims=None, *, correction=1, keepdim=False: var(x, dims, correction=0))
    monkeypatch.setattr(torch, "compile", lambda graph, **settings: graph)  # which would take 20 s
    density = Density(spread, (X, Y))
    positions = torch.tensor([[0.1, 0.5, -0.3], [1.0, 0.2, 0.4]])
    with pytest.warns(RuntimeWarning, match="the model runs .*: the recording gives .* where the model gives"):
        engine = prepare(density, positions, tier=tier, calls=5000)
    assert engine.kind == kind
    assert engine.reason.startswith("the recording gives")
    torch.testing.assert_close(engine.gradient(positions)[0], torch.stack([density(q) for q in positions]))


# Precision: float64 data, as NumPy's are, beside priors of Python floats


def regression(x, y=None):
    a = pyro.sample("a", dist.Normal(0.0, 0.1))
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 0.1).to_event(1))
    s = pyro.sample("s", dist.HalfCauchy(0.1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(a + x @ w, s), obs=y)


X64 = torch.cat([X, X**2], 1).double() / 3
Y64 = Y.double() / 3


def held_in_a_closure(x, y=None):
    return regression(X64, Y64)


def float32_made_outside(x, y=None):
    s = pyro.sample("s", dist.HalfNormal(1.0))
    w = pyro.sample("w", dist.Normal(ZEROS, 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal((x * w).sum(-1), s), obs=y)


ZEROS = torch.zeros(2)
FLOAT64 = {
    "regression": Case(regression, (X64, Y64)),
    "held in a closure": Case(held_in_a_closure, (X, Y)),
    "float32 made outside": Case(float32_made_outside, (X64, Y64)),
    "Student-t of unknown tails": Case(robust, (X.double(), Y64)),
    "hierarchical": Case(hierarchical, (GROUP, Y64)),
    "LKJ covariance": Case(covariance, (TWO.double(), TWO.double())),
    "Dirichlet mixture": Case(dirichlet_mixture, (X.double(), Y64)),
    "flat prior": Case(flat_prior, (X.double(), Y64)),
    "Gaussian process": Case(gaussian_process, (X.double(), Y64)),
}


@pytest.mark.parametrize("name", FLOAT64)
def test_float64_data_make_the_density_float64_on_the_fastest_tier(name):
    """The value is that of the model with float64 as torch's default, to 1e-10: 0.1 as a float32 is off by 1e-8."""
    case = FLOAT64[name]
    density = Density(case.model, case.args)
    assert density.dtype == torch.float64
    positions = 0.3 * torch.randn(2, density.dim, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    engine = prepare(density, positions, calls=5000, threads=1)  # a warning would be an error
    assert (engine.kind, engine.reason) == ("lanes", "")
    values, _ = engine.gradient(positions)
    torch.set_default_dtype(torch.float64)
    try:
        expected = torch.stack([Density(case.model, case.args)(q) for q in positions])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-10)


def test_float64_data_that_the_model_cannot_take_are_said_once_with_the_way_out():
    with pytest.warns(RuntimeWarning, match=r"log joint has dtype float64 .* float32.*y.to\(torch.float32\)") as said:
        density = Density(regression, (X64.float(), Y64))  # float32 x times float64 w is refused by torch
    assert len(said) == 1
    assert density.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("method", [HMC, NUTS])
def test_draws_of_float64_data_are_float64_and_the_engine_is_kept_in_attrs(method):
    settings = {"chains": 2, "warmup": 20, "draws": 5, "progress": False, "engine": "eager"}
    posterior = infer(regression, X64, Y64, method=method(**settings))
    assert {value.dtype for value in posterior.draws.values()} == {torch.float64}
    assert posterior.predictive(X64).mean.dtype == torch.float64
    expected = {"tier": "eager", "engine": "eager", "tier_reason": ""}
    assert expected.items() <= posterior.attrs.items()


def test_the_chains_of_an_engine_move_as_one_by_one():
    """Leapfrog of every engine, by 0 to 7 steps, against one gradient at a time."""
    for tier in TIERS:
        density, positions, engine, _ = prepared("float64 network", tier)
        step = torch.linspace(0.01, 0.03, CHAINS, dtype=torch.double)
        steps, mass = torch.tensor([3, 0, 7, 1, 2]), torch.linspace(0.5, 2, density.dim, dtype=torch.double)
        p = torch.randn(positions.shape, dtype=torch.double)
        value, gradient = engine.gradient(positions)
        moved = engine.integrate((positions, p, gradient, value), step, steps, mass)
        one = torch.func.grad_and_value(density)
        for chain in range(CHAINS):
            q, r = positions[chain], p[chain]
            g, v = one(q)
            for _ in range(int(steps[chain])):
                r = r + 0.5 * step[chain] * g
                q = q + step[chain] * mass * r
                g, v = one(q)
                r = r + 0.5 * step[chain] * g
            for found, expected in zip((part[chain] for part in moved), (q, r, g, v), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        path = engine.path((positions, p, gradient, value), step, 3, mass)
        torch.testing.assert_close(path[0][-1][0], moved[0][0], rtol=1e-10, atol=1e-10)
        assert torch.equal(path[0][0], positions)
        assert path[3].shape == (4, CHAINS)


# Bad input


def start_of(model: Callable[..., Any], *args: Any, chains: int = 3, **settings: Any) -> Engine:
    density = Density(model, args)
    return prepare(density, 0.1 * torch.ones(chains, density.dim, dtype=density.dtype), **settings)


def observed_only(x, y=None):
    return pyro.sample("y", dist.Normal(x[:, 0], 1.0).to_event(1), obs=y)


def discrete(x, y=None):
    k = pyro.sample("k", dist.Bernoulli(0.5))
    return pyro.sample("y", dist.Normal(k * x[:, 0], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (observed_only, "expected a model with latent sites to sample, got none"),
        (discrete, "expected continuous latent sites .*, got 'k'"),
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


def branching(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    slope = w if w > 0 else -3 * w
    return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0).to_event(1), obs=y)


def reads_a_number(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w.item() * x[:, 0] + w, 1.0).to_event(1), obs=y)


def reads_a_list(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w.tolist() * x[:, 0] + w, 1.0).to_event(1), obs=y)


def reads_an_array(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(float(w.detach().numpy()) * x[:, 0] + w, 1.0).to_event(1), obs=y)


DROPOUT = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))


def drops_out(x, y=None):
    return pyro.sample("y", gaussian(bayesian("net", DROPOUT)(x), 0.3).to_event(1), obs=y)


def adds_noise(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w * x[:, 0] + torch.randn(len(x)), 1.0).to_event(1), obs=y)


def subsampled(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x), subsample_size=4) as rows:
        return pyro.sample("y", dist.Normal(w * x[rows, 0], 1.0), obs=y[rows])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            branching,
            r"expected a model without control flow on sampled values .* branches at line \d+ of .*test_tiers",
        ),
        (reads_a_number, "expected a model without control flow on sampled values"),
        (reads_a_list, "expected a model without control flow on sampled values"),
        (reads_an_array, "expected a model without control flow on sampled values"),
        (drops_out, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
        (adds_noise, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
        (subsampled, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_models_that_are_no_function_of_their_sites_are_refused(model, message, tier):
    with pytest.raises(ValueError, match=message):
        start_of(model, X, Y, tier=tier)


def in_place(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    mean = torch.zeros(len(x))
    mean += w * x[:, 0]
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def test_what_vmap_cannot_do_is_said_with_its_line():
    with pytest.raises(ValueError, match=r"expected a model that .* can run .* at line \d+ of .*test_tiers"):
        start_of(in_place, X, Y)


def root(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = torch.where(w > -1, slope, (-1 - w).sqrt()) * x[:, 0]
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def test_a_gradient_that_is_nan_names_its_site():
    with pytest.raises(ValueError, match=r"expected a finite gradient at the start, got nan .* the sites \['w'\]"):
        start_of(root, X, Y)


def test_a_start_of_no_density_is_refused():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Uniform(w, w + 1.0).expand(x.shape[:1]).to_event(1), obs=y)

    with pytest.raises(ValueError, match=r"expected starts inside the support, .*, got -inf in 3 of 3 chains"):
        start_of(model, X, 10 + Y.abs())


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


# nan, failed factorisations, checks: every tier does as the model


def zero_times(x, y=None):
    """nan where w > 1: zero times nan is nan, also for a compiler that knows the zero."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    mean = x[:, 0] + torch.zeros(len(x)) * (1.0 - w).log()
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def equally_correlated(x, y=None):
    """Of 20 rows: no covariance where r < -1 / 19."""
    r = pyro.sample("r", dist.Normal(0.0, 0.5))
    covariance = torch.eye(20) + (1 - torch.eye(20)) * r
    return pyro.sample("y", dist.MultivariateNormal(torch.zeros(20), covariance), obs=y)


NOT_EVERYWHERE = [
    pytest.param(model, bad, tier, marks=[pytest.mark.slow] if tier == "compiled" and bad < 0 else [])
    for model, bad in ((zero_times, 2.0), (equally_correlated, -0.5))
    for tier in TIERS
]


@pytest.mark.parametrize(("model", "bad", "tier"), NOT_EVERYWHERE)
def test_one_chain_without_a_density_is_alone_on_every_tier(model, bad, tier):
    y = torch.linspace(-2, 2, 20)
    inductor = tier == "compiled" and model is equally_correlated
    with pytest.warns(RuntimeWarning, match="linalg_cholesky_ex") if inductor else contextlib.nullcontext():
        engine = start_of(model, y[:, None], y, tier=tier, threads=1)
    assert engine.tier == tier
    for q in (torch.tensor([[0.1], [bad], [0.3]]), torch.tensor([[0.1], [0.2], [0.3]])):
        value, gradient = engine.gradient(q)
        assert value.isfinite().tolist() == gradient.isfinite()[:, 0].tolist() == (q[:, 0] != bad).tolist()


def test_where_a_compiled_model_fails_on_the_way_it_is_run_itself():
    calls = []

    def compiled(q):
        calls.append(q)
        raise TorchDynamoException("cannot be compiled anew")

    gradient = tiers._guarded(compiled, lambda q: (q.sum(-1), q))
    q = torch.ones(2, 3)
    with pytest.warns(RuntimeWarning, match="the model is run by Pyro from here on .*cannot be compiled anew") as said:
        found = [gradient(q), gradient(q)]
    assert len(said) == len(calls) == 1
    assert all(torch.equal(value, q.sum(-1)) and torch.equal(grad, q) for value, grad in found)


class Module(PyroModule):
    """Its priors are made while Pyro's checks are on, and go on checking."""

    def __init__(self):
        super().__init__()
        self.net = PyroModule[torch.nn.Linear](1, 1)
        self.net.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 1]).to_event(2))
        self.net.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        mean = self.net(x).squeeze(-1)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


@pytest.mark.parametrize("tier", TIERS)
def test_a_module_with_priors_runs_on_every_tier(tier):
    module = Module()
    engine = start_of(module, X, Y, tier=tier, threads=1)
    assert engine.tier == tier
    position = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    value, gradient = engine.gradient(position)
    for chain in range(3):
        expected, slope = pyro_s_own(Case(module, (X, Y)), engine.density, position[chain])
        assert abs(value[chain] - expected) <= 2e-5 * (1 + abs(expected))
        assert (gradient[chain] - slope).abs().max() <= 2e-5 * (1 + slope.abs().max())
    assert pyro.poutine.trace(module).get_trace(X, Y).nodes["net.bias"]["fn"].base_dist._validate_args  # its own copy


def test_an_unknown_tier_is_refused():
    with pytest.raises(ValueError, match=r"expected a tier from \['eager', 'replay', 'compiled', 'auto'\], got 'jit'"):
        start_of(linear, X, Y, tier="jit")


@pytest.mark.parametrize("tier", ["compiled", "auto"])
def test_without_a_compiler_a_slower_tier_and_one_warning(monkeypatch, tier):
    def none() -> str:
        raise build.MissingCompiler("no C++ compiler (g++ or clang++) was found")

    monkeypatch.setattr(build, "compiler", none)
    build.library.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"runs on the tier .replay.: .*no C.. compiler") as caught:
        engine = start_of(linear, X, Y, tier=tier)
    assert len(caught) == 1
    assert engine.tier == "replay"


@pytest.mark.parametrize(("calls", "tier"), [(10, "eager"), (500, "replay"), (5000, "compiled")])
def test_the_tier_goes_by_the_length_of_the_run(calls, tier):
    assert start_of(linear, X, Y, calls=calls).tier == tier
