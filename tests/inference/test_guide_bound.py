"""The bound by the engine, held against Pyro's `Trace_ELBO` at the same draws, and fits against closed forms."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, autoguide
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

from posterity.inference import SVI, guide_bound, infer
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.density import PointDensity
from posterity.inference.guide_bound import GuideBound
from posterity.models import bayesian, mixture_head, mlp, point
from posterity.models.guides import empty_guide, make_guide
from posterity.random import seeded

X = torch.linspace(-2, 2, 30)[:, None]
Y = torch.sin(X[:, 0]) + 0.1 * torch.randn(30, generator=torch.Generator().manual_seed(0))
NET, HEAD = mlp(1, 5, 6, seed=0), mixture_head(2)
LAYER = nn.Linear(1, 1)


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


def network(x, y=None):
    features = bayesian("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", HEAD(features), obs=y)


def constrained(x, y=None):
    """Sites and parameters on several supports, and a mask."""
    share = pyro.param("share", torch.tensor([0.2, 0.3, 0.5]), constraint=constraints.simplex)
    width = pyro.param("width", torch.tensor(0.7), constraint=constraints.positive)
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("groups", 2), pyro.poutine.mask(mask=torch.tensor([True, False])):
        group = pyro.sample("group", dist.LogNormal(0.0, scale))
    mean = x[:, 0] * weights[0] + share[1] + group.sum()
    with pyro.plate("obs", len(x)), pyro.poutine.scale(scale=0.5):
        return pyro.sample("y", dist.Normal(mean, width + scale), obs=y)


class Mixed(PyroModule):
    """A sampled weight, and a parameter of torch."""

    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](1, 1)
        self.layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 1]).to_event(2))

    def forward(self, x, y=None):
        mean = self.layer(x)[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.3), obs=y)


def made(name, model, scale=0.1):
    guide = make_guide(name, model, init_scale=scale, init="median")
    guide(X, Y)
    return guide


def gradients(loss):
    """The gradient of every parameter in the store, by name."""
    leaves = dict(pyro.get_param_store().named_parameters())
    for leaf in leaves.values():
        leaf.grad = None
    loss.backward()
    return {name: leaf.grad.clone() for name, leaf in leaves.items()}


@pytest.mark.parametrize("name", ["map", "mean_field", "low_rank", "full_rank"])
@pytest.mark.parametrize("model", [network, constrained, Mixed()], ids=["network", "constrained", "module"])
def test_bound_and_gradient_are_those_of_pyro_at_the_same_draw(name, model, monkeypatch):
    """The draw of the engine's bound is fed to Pyro's guide; values to 1e-5, gradients to 1e-5 of their norm."""
    guide = made(name, model)
    bound = GuideBound(model, guide, (X, Y), 30, 1, 300)
    with seeded(3):
        ours = bound(1).mean()
    found = gradients(ours)
    if isinstance(guide, autoguide.AutoNormal):  # Pyro draws site by site; with these numbers in the same order
        with seeded(3):
            noise = torch.normal(torch.zeros(1, bound.density.dim), 1.0)[0]
        starts = {site.name: site.start - bound.latents[0].start for site in bound.latents}
        order = iter([noise[starts[s.name] : starts[s.name] + s.size].reshape(s.unconstrained) for s in bound.latents])
        monkeypatch.setattr(dist.Normal, "rsample", lambda self, shape=(): self.loc + self.scale * next(order))
    with seeded(3):
        theirs = Trace_ELBO().differentiable_loss(model, guide, X, Y)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    for key, exact in gradients(theirs).items():
        assert float((found[key] - exact).norm()) <= 1e-5 * float(exact.norm()) + 1e-4, key


@pytest.mark.parametrize("name", ["mean_field", "low_rank"])
def test_many_samples_have_the_mean_of_pyros_bound(name):
    """Means of 400 samples of both; within 5 standard errors of their difference (seed 0)."""
    guide = made(name, constrained)
    bound = GuideBound(constrained, guide, (X, Y), 30, 8, 300)
    one = Trace_ELBO().differentiable_loss
    with torch.no_grad(), seeded(0):
        ours = bound(400).double()
        theirs = torch.stack([one(constrained, guide, X, Y) for _ in range(400)]).double()
    assert ours.shape == (400,)
    assert ours.unique().numel() > 390  # independent draws, also beyond the number of chains
    error = math.sqrt(float(ours.var() + theirs.var()) / 400)
    assert abs(float(ours.mean() - theirs.mean())) < 5 * error


def test_the_samples_of_a_point_are_all_the_same():
    bound = GuideBound(network, made("map", network), (X, Y), 30, 8, 300)
    assert bound.engine.chains == 1
    assert bound(5).unique().numel() == 1


def test_a_bound_that_differs_from_pyros_is_refused(monkeypatch):
    """Here the log determinants are missing."""
    guide = made("mean_field", constrained)
    monkeypatch.setattr(guide_bound, "JointDensity", PointDensity)
    with pytest.raises(ValueError, match=r"expected a bound of .* as by Pyro, got"):
        GuideBound(constrained, guide, (X, Y), 30, 1, 300)


# Fits


def fit(model, args=(X, Y), **settings):
    return infer(model, *args, method=SVI(**({"progress": False} | settings)), seed=0)


def test_a_mean_field_fit_of_a_normal_mean_is_its_posterior():
    """Precision 30 / 0.25 + 1 / 4. Mean within 0.1 posterior sd, sd within 5 % (of 8,000 draws: 0.011 and 0.8 %)."""

    def model(y=None):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("obs", 30):
            return pyro.sample("y", dist.Normal(mean, 0.5), obs=y)

    posterior = fit(model, (Y,), guide="mean_field", steps=1000, particles=4, draws=8000)
    precision = 30 / 0.25 + 0.25
    draws = posterior.draws["mean"]
    assert posterior.attrs["engine"] == "lanes"
    assert abs(float(draws.mean()) - float(Y.sum()) / 0.25 / precision) < 0.1 * precision**-0.5
    assert float(draws.std()) == pytest.approx(precision**-0.5, rel=0.05)


def test_maximum_likelihood_of_a_linear_model_is_least_squares():
    """The coefficients to 1e-3, the residual's root mean square to 1e-3."""

    def model(x, y=None):
        mean = point("line", LAYER)(x)[:, 0]
        noise = pyro.param("noise", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, noise), obs=y)

    posterior = fit(model, steps=1500, learning_rate=0.03)
    design = torch.cat([X, torch.ones(30, 1)], 1)
    exact = torch.linalg.lstsq(design, Y[:, None]).solution[:, 0]
    found = torch.stack([posterior.draws[f"line.{part}"].flatten()[0] for part in ("weight", "bias")])
    assert posterior.attrs["engine"] == "replay"
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)
    residual = (Y - design @ exact).square().mean().sqrt()
    torch.testing.assert_close(posterior.draws["noise"].flatten()[0], residual, rtol=0, atol=1e-3)


def short(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 0.3), obs=y)


def subsampled(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x), subsample_size=10) as rows:
        return pyro.sample("y", dist.Normal(w * x[rows, 0], 0.3), obs=None if y is None else y[rows])


def branching(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0] if w > 0 else w + x[:, 0], 0.3), obs=y)


def averaging(x, y=None):
    """Running averages of the inputs, which a recording would not update."""
    norm = pyro.module("norm", NORM)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(norm(x)[:, 0], 0.3), obs=y)


NORM = nn.BatchNorm1d(1)


def past_pyro(x, y=None):
    """A parameter that is also read as a variable, which a value in its place does not reach."""
    pyro.param("slope", SLOPE)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0] * SLOPE, 0.3), obs=y)


SLOPE = torch.tensor(1.0, requires_grad=True)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (short, {"guide": autoguide.AutoNormal(short)}, "a guide that is not by name"),
        (short, {"batch_size": 10}, "batches of rows"),
        (short, {"steps": 200}, "fewer than 300 steps"),
        (subsampled, {}, "draws random n"),
        (branching, {}, "without control flow on sampled values"),
        (averaging, {}, "in-place operation"),
        (past_pyro, {}, "expected a gradient of 'slope'"),
    ],
    ids=["callable", "batches", "short", "subsampled", "branching", "averaging", "past_pyro"],
)
def test_pyro_fits_what_the_engine_cannot(model, settings, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = fit(model, **({"steps": 300, "draws": 2} | settings))
    assert posterior.attrs["engine"] == "pyro"
    assert reason in posterior.attrs["engine_reason"]


def test_a_large_model_is_left_to_pyro():
    with pytest.raises(ValueError, match="expected rows times dimension up to 10000000, got 10000000 times 46"):
        GuideBound(network, empty_guide, (X, Y), 10_000_000, 1, 300)


def test_parameters_that_pyros_checks_refuse_end_the_engine():
    """The density of a von Mises distribution is finite at a negative concentration, which is not a parameter."""

    def model(y=None):
        concentration = pyro.param("concentration", torch.tensor(1.0))
        with pyro.plate("obs", 30):
            return pyro.sample("y", dist.VonMises(0.0, concentration), obs=y)

    opposite = math.pi + 0.3 * torch.linspace(-1, 1, 30)
    with pytest.warns(match="the bound was not finite after"):
        posterior = fit(model, (opposite,), steps=400)
    assert posterior.attrs["engine"] == "pyro"
    assert posterior.attrs["engine_reason"].startswith("Pyro's checks refuse parameters")
    assert 0 < float(posterior.draws["concentration"].flatten()[0]) < 0.1
