"""Models of every kind, and their log joint and gradient by Pyro's own potential, for the tests of the engine."""

import functools
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
from torch import Tensor

from posterity.inference.engine import Density, Engine, prepare
from posterity.inference.engine.lanes import build
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


def rows_in_a_loop(x, y=None):
    """A site of each row in a plate that is a loop; its rate is latent in the plate of the rows before."""
    slope, scale = pyro.sample("slope", dist.Normal(0.0, 1.0)), pyro.sample("scale", dist.HalfNormal(1.0))
    with pyro.plate("groups", 4) as index:
        offset = pyro.sample("offset", dist.Normal(0.0, scale))[index]
    for i in pyro.plate("obs", len(x)):
        pyro.sample(f"y_{i}", dist.Normal(offset[GROUP[i]] + slope * x[i, 0], 0.5), obs=None if y is None else y[i])


def markov_chain(x, y=None):
    """A random walk of latent states, one step after another."""
    state, scale = 0.0, pyro.sample("scale", dist.HalfNormal(1.0))
    for t in pyro.markov(range(len(x))):
        state = pyro.sample(f"state_{t}", dist.Normal(state, scale))
        pyro.sample(f"y_{t}", dist.Normal(state, 0.5), obs=None if y is None else y[t])


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


def sorted_weights(x, y=None):
    """An operation whose positions depend on the chain, which lanes refuses."""
    w = pyro.sample("w", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0] * (w.sort().values * torch.arange(5.0)).sum(), 1.0), obs=y)


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
    "rows in a loop": Case(rows_in_a_loop, (X, Y)),
    "Markov loop": Case(markov_chain, (X, Y)),
    "Gaussian process": Case(gaussian_process, (X, Y)),
    "great Gaussian process": Case(great_process, (X, Y.repeat(2))),
    "sorted weights": Case(sorted_weights, (X, Y), lanes=False),
    "simplices": Case(simplices, (X, LABEL)),
    "flat prior": Case(flat_prior, (X, Y), for_pyro=flat_by_mask),
}


def positions_of(density: Density) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(CHAINS, density.dim, generator=generator, dtype=density.dtype)


def prepared(name: str, tier: str) -> tuple[Density, Tensor, Engine, list[str]]:
    """The model's engine, random positions for it, and the warnings of the preparation."""
    case = CASES[name]
    density = Density(case.model, case.args)
    positions = positions_of(density)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = prepare(density, positions, tier=tier, threads=1)
    return density, positions, engine, [str(w.message) for w in caught]


def by_pyro(case: Case, density: Density, points: Tensor) -> tuple[Tensor, Tensor]:
    """Log joint and gradient at each point by Pyro's potential, which traces the model as it is written."""
    start, potential, _, _ = initialize_model(case.for_pyro or case.model, case.args)
    assert set(start) == {site.name for site in density.sites}
    values, gradients = [], []
    for point in points:
        leaf = point.clone().requires_grad_()
        free = {s.name: leaf[s.start : s.start + s.size].reshape(start[s.name].shape) for s in density.sites}
        value = -potential(free)
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, leaf)[0])
    return torch.stack(values), torch.stack(gradients)


@functools.cache
def expected(name: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Points, log joint and gradient of a case: where it is recorded, and away from there."""
    case = CASES[name]
    density = Density(case.model, case.args)
    positions = positions_of(density)
    # What a recording has frozen would show at the second.
    return [(points, *by_pyro(case, density, points)) for points in (positions, 1.7 * positions.flip(0) - 0.2)]


def assert_close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Values and gradients of all chains, to the tolerance of their precision."""
    (values, gradients), (true, slopes) = found, expected
    tolerance = TOLERANCE[values.dtype]
    assert ((values - true).abs() <= tolerance * (1 + true.abs())).all()
    assert ((gradients - slopes).abs().amax(1) <= tolerance * (1 + slopes.abs().amax(1))).all()


def without_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in half the time, for tests of what is compiled; others test the flags that users get."""
    monkeypatch.setattr(build, "FLAGS", tuple("-O0" if flag == "-O2" else flag for flag in build.FLAGS))


def start_of(model: Callable[..., Any], *args: Any, chains: int = 3, **settings: Any) -> Engine:
    """An engine of the model, from starts at 0.1."""
    density = Density(model, args)
    return prepare(density, 0.1 * torch.ones(chains, density.dim, dtype=density.dtype), **settings)


def branching(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    slope = w if w > 0 else -3 * w
    return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0).to_event(1), obs=y)


def regression(x, y=None):
    a = pyro.sample("a", dist.Normal(0.0, 0.1))
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 0.1).to_event(1))
    s = pyro.sample("s", dist.HalfCauchy(0.1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(a + x @ w, s), obs=y)


# float64, as NumPy's numbers are, beside priors of Python floats.
X64 = torch.cat([X, X**2], 1).double() / 3
Y64 = Y.double() / 3
