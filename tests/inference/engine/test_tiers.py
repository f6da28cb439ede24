"""The engine's log joint and gradient, on every tier, against Pyro's own potential of one chain at a time.

A table of models x tiers at random positions. Tolerance, relative to 1 + |log joint| and to 1 + the largest component
of the gradient: 1e-10 in float64; in float32 2e-5, a hundred times its rounding, for what the order of sums may do.
"""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample
from torch._dynamo.exc import TorchDynamoException

from posterity.inference.engine import TIERS, Density, prepare, tiers
from posterity.inference.engine.chains import LanesEngine
from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes.rules import RULES
from tests.inference.engine.cases import (
    CASES,
    GROUP,
    TWO,
    X64,
    Y64,
    Case,
    X,
    Y,
    assert_close,
    branching,
    by_pyro,
    covariance,
    dirichlet_mixture,
    expected,
    flat_prior,
    gaussian_process,
    hierarchical,
    linear,
    prepared,
    regression,
    robust,
    start_of,
    without_optimisation,
)  # fmt: skip

SLOW = {("sorted weights", "compiled")}
TABLE = [
    pytest.param(name, tier, marks=[pytest.mark.slow] if (name, tier) in SLOW else [], id=f"{name}-{tier}")
    for name in CASES
    for tier in TIERS
]


@pytest.mark.parametrize(("name", "tier"), TABLE)
def test_log_joint_and_gradient_are_those_of_pyro(name, tier, monkeypatch):
    without_optimisation(monkeypatch)
    case = CASES[name]
    _, _, engine, warned = prepared(name, tier)
    for points, values, gradients in expected(name):
        assert_close(engine.gradient(points), (values, gradients))
    # What lanes does not know, torch.compile does, and says so; what TorchScript does not, the recorded graph.
    assert engine.tier == tier
    assert engine.kind == (tier if tier != "compiled" else "lanes" if case.lanes else "inductor")
    assert isinstance(engine, LanesEngine) == (engine.kind == "lanes")
    if engine.kind == "inductor":
        assert warned == [f"the model runs by torch.compile instead of lanes: {engine.reason}"]
        assert engine.reason == "Unsupported: operation sort"
    else:
        assert not warned
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
    "Gaussian process": Case(gaussian_process, (X[:5].double(), Y64[:5])),
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
def test_one_chain_without_a_density_is_alone_on_every_tier(model, bad, tier, monkeypatch):
    y = torch.linspace(-2, 2, 20)
    inductor = tier == "compiled" and model is equally_correlated
    if inductor:
        monkeypatch.delitem(RULES, "linalg_cholesky_ex")
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
    points = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert_close(engine.gradient(points), by_pyro(Case(module, (X, Y)), engine.density, points))
    assert pyro.poutine.trace(module).get_trace(X, Y).nodes["net.bias"]["fn"].base_dist._validate_args  # its own copy


def test_an_unknown_tier_is_refused():
    with pytest.raises(ValueError, match="expected tier to be one of 'eager', 'replay', 'compiled', 'auto', got 'jit'"):
        start_of(linear, X, Y, tier="jit")


@pytest.mark.parametrize("tier", ["compiled", "auto"])
def test_without_a_compiler_a_slower_tier_and_one_warning(monkeypatch, tier):
    def none() -> str:
        raise build.MissingCompiler("no C++ compiler (g++ or clang++) was found")

    monkeypatch.setattr(build, "compiler", none)
    with pytest.warns(RuntimeWarning, match=r"runs on the tier .replay.: .*no C.. compiler") as caught:
        engine = start_of(linear, X, Y, tier=tier)
    assert len(caught) == 1
    assert engine.tier == "replay"


@pytest.mark.parametrize(("calls", "tier"), [(10, "eager"), (500, "replay"), (5000, "compiled")])
def test_the_tier_goes_by_the_length_of_the_run(calls, tier):
    assert start_of(linear, X, Y, calls=calls).tier == tier


@pytest.mark.parametrize("tier", TIERS)
def test_a_model_that_is_no_function_of_its_sites_is_refused_on_every_tier(tier):
    """What is refused, and why, is in `test_evaluation`."""
    with pytest.raises(ValueError, match=r"expected a model without control flow .* branches at line \d+ of .*cases"):
        start_of(branching, X, Y, tier=tier)


@pytest.mark.parametrize(
    ("tier", "chains", "calls", "expected"),
    [
        ("auto", 3, 5000, "replay"),
        ("auto", 4, 5000, "auto"),
        ("auto", 3, 299, "auto"),
        ("compiled", 1, 5000, "compiled"),
    ],
)
def test_steps_of_few_chains_are_replayed(tier, chains, calls, expected):
    assert tiers.tier_for_steps(tier, chains, calls) == expected
