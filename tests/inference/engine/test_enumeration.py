"""Discrete sites are summed out: the log joint is that of the marginalised model, and of Pyro's own potential."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import initialize_model

from posterity.inference import HMC, NUTS, SVI, Ensemble, infer
from posterity.inference.engine import Density, prepare
from posterity.inference.engine.enumeration import SUMMED_OUT, einsum, tensordot, transpose, without_discrete
from posterity.inference.mcmc import reference
from posterity.inference.program.sites import inspect, is_latent
from tests.inference.engine.cases import without_optimisation

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.cat([torch.randn(10, generator=GENERATOR) - 2, torch.randn(10, generator=GENERATOR) + 2]).double()
SERIES = torch.randn(30, generator=GENERATOR).double()
STEPS = len(SERIES)


def components(count=2):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(count)))
    return weights, pyro.sample("loc", dist.Normal(torch.linspace(-3.0, 3.0, count), 1.0).to_event(1))


def mixture(y=None):
    weights, loc = components()
    with pyro.plate("rows", 20):
        z = pyro.sample("z", dist.Categorical(weights))
        return pyro.sample("y", dist.Normal(loc[z], 1.0), obs=y)


def mixture_by_hand(y=None):
    weights, loc = components()
    with pyro.plate("rows", 20):
        return pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(loc, 1.0)), obs=y)


def chain(y=None):
    """A hidden Markov model whose dimensions are reused by ``pyro.markov``."""
    transition = pyro.sample("transition", dist.Dirichlet(torch.tensor([[8.0, 2.0], [3.0, 7.0]])).to_event(1))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 0.5).to_event(1))
    z = torch.tensor(0)
    for t in pyro.markov(range(STEPS)):
        z = pyro.sample(f"z_{t}", dist.Categorical(transition[z]))
        pyro.sample(f"y_{t}", dist.Normal(loc[z], 1.0), obs=None if y is None else y[t])


def chain_by_hand(y=None):
    """`DiscreteHMM` makes a transition before each observation, so its first state is 0."""
    transition = pyro.sample("transition", dist.Dirichlet(torch.tensor([[8.0, 2.0], [3.0, 7.0]])).to_event(1))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 0.5).to_event(1))
    initial = torch.tensor([0.0, -1e3])  # minus infinity has no gradient in Pyro
    hmm = dist.DiscreteHMM(initial, transition.log(), dist.Normal(loc, 1.0), duration=STEPS)
    pyro.sample("y", hmm, obs=y)


def occupancy(y=None):
    """Two discrete sites for each of three places, one inside the other's plate, and two nested plates."""
    occupied = pyro.sample("occupied", dist.Beta(2.0, 2.0))
    seen = pyro.sample("seen", dist.Beta(2.0, 2.0))
    with pyro.plate("places", 3, dim=-2):
        there = pyro.sample("there", dist.Bernoulli(occupied))
        with pyro.plate("visits", 4, dim=-1):
            return pyro.sample("y", dist.Bernoulli(there * seen + 0.01), obs=y)


def occupancy_by_hand(y=None):
    occupied = pyro.sample("occupied", dist.Beta(2.0, 2.0))
    seen = pyro.sample("seen", dist.Beta(2.0, 2.0))
    one, none = (dist.Bernoulli(p + 0.01).log_prob(y).sum(1) for p in (seen, 0 * seen))
    total = torch.logaddexp(one + occupied.log(), none + (-occupied).log1p()).sum()
    pyro.factor("likelihood", total)
    pyro.sample("y", dist.Normal(0.0, 1.0).mask(False), obs=torch.tensor(0.0))


def shared(y=None):
    """One discrete site for all rows, and a site with elements that are in no plate."""
    k = pyro.sample("k", dist.Bernoulli(0.3))
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0))
    with pyro.plate("rows", 20):
        return pyro.sample("y", dist.Normal(loc.sum() + 2 * k, 1.0), obs=y)


def shared_by_hand(y=None):
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0))
    one, none = (dist.Normal(loc.sum() + 2.0 * k, 1.0).log_prob(y).sum() for k in (1, 0))
    pyro.factor("likelihood", torch.logaddexp(one + torch.tensor(0.3).log(), none + torch.tensor(0.7).log()))
    pyro.sample("y", dist.Normal(0.0, 1.0).mask(False), obs=torch.tensor(0.0))


def marked(y=None):
    """A site that is marked for a loop, which Pyro's samplers refuse."""
    weights, loc = components()
    with pyro.plate("rows", 20):
        z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "sequential"})
        return pyro.sample("y", dist.Normal(loc[z], 1.0), obs=y)


@dataclass(frozen=True)
class Case:
    model: Callable[..., Any]
    by_hand: Callable[..., Any]
    y: torch.Tensor
    pyro_takes: bool = True


VISITS = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]]).double()
CASES = {
    "mixture": Case(mixture, mixture_by_hand, Y),
    "configured": Case(config_enumerate(mixture), mixture_by_hand, Y),
    "marked": Case(marked, mixture_by_hand, Y, pyro_takes=False),
    "hidden Markov": Case(chain, chain_by_hand, SERIES),
    "occupancy": Case(occupancy, occupancy_by_hand, VISITS),
    "shared": Case(shared, shared_by_hand, Y, pyro_takes=False),
}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@every_case
def test_the_log_joint_is_that_of_the_marginalised_model(name, doubles):
    case = CASES[name]
    density, by_hand = Density(case.model, (case.y,)), Density(case.by_hand, (case.y,))
    assert [s.name for s in density.sites] == [s.name for s in by_hand.sites]
    for scale in (0.0, 0.3, -1.0):
        q = scale * torch.linspace(-1, 1.5, density.dim)
        grad, value = torch.func.grad_and_value(density)(q)
        expected, expected_value = torch.func.grad_and_value(by_hand)(q)
        torch.testing.assert_close(value, expected_value)
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pyro_takes])
def test_the_log_joint_is_that_of_pyro_s_potential(name, doubles):
    case = CASES[name]
    density = Density(case.model, (case.y,))
    _, potential, *_ = initialize_model(case.model, model_args=(case.y,))
    q = 0.4 * torch.linspace(-1, 1.5, density.dim)
    free = {s.name: q[s.start : s.start + s.size].reshape(s.unconstrained) for s in density.sites}
    torch.testing.assert_close(density(q), -potential(free))


@pytest.mark.parametrize("tier", ["replay", "compiled"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "Markov" in n else n for n in CASES])
def test_every_tier_takes_enumerated_models(name, tier, doubles, monkeypatch):
    """Thirty steps of the hidden Markov model are compiled as well, so that its transitions cost microseconds."""
    without_optimisation(monkeypatch)
    case = CASES[name]
    density = Density(case.model, (case.y,))
    q = 0.4 * torch.randn(3, density.dim, generator=torch.Generator().manual_seed(1))
    engine = prepare(density, q, tier=tier, threads=1)
    assert engine.kind == {"replay": "replay", "compiled": "lanes"}[tier]
    value, grad = engine.gradient(q)
    for row in range(3):
        expected, expected_value = torch.func.grad_and_value(density)(q[row])
        torch.testing.assert_close(value[row], expected_value)
        torch.testing.assert_close(grad[row], expected)


@functools.cache
def posterior(model, family=NUTS):
    return infer(model, Y, method=family(chains=4, warmup=200, draws=200, threads=1, progress=False), seed=0)


@pytest.mark.parametrize("family", [HMC, NUTS])
def test_draws_are_those_of_the_marginalised_model(family):
    """With the same seed and density the draws are equal up to rounding, which the first transitions do not amplify."""
    one, two = (posterior(model, family) for model in (mixture, mixture_by_hand))
    for name in ("weights", "loc"):
        spread = two.draws[name].double().std((0, 1)) / 10  # 4 chains of 200 draws: more than 100 effective
        torch.testing.assert_close(one.draws[name].double().mean((0, 1)), two.draws[name].double().mean((0, 1)),
                                   atol=float(4 * spread.max()), rtol=0.0)  # fmt: skip
    assert set(one.draws) == {"weights", "loc"}
    assert one.program.enumerated == ("z",)


def test_pyro_s_own_samplers_agree():
    method = reference.NUTS(chains=1, warmup=20, draws=20, progress=False)
    with pytest.warns(RuntimeWarning, match="the model is run at every step"):  # Pyro's sums cannot be recorded
        assert set(infer(mixture, Y.float(), method=method, seed=0).draws) == {"weights", "loc"}


# Methods that run Pyro by themselves


@every_case
def test_a_model_with_a_factor_in_place_of_its_discrete_sites_has_the_same_log_joint(name, doubles):
    case = CASES[name]
    summed, program = without_discrete(case.model, inspect(case.model, (case.y,)), (case.y,), "SVI", {})
    assert (program.enumerated, program.observed) == ((), ())
    density, expected = Density(summed, (case.y,)), Density(case.by_hand, (case.y,))
    q = 0.4 * torch.linspace(-1, 1.5, density.dim)
    torch.testing.assert_close(density(q), expected(q))
    run = pyro.poutine.trace(summed).get_trace(case.y)
    assert {name for name, node in run.nodes.items() if is_latent(node)} == set(program.latents)
    assert [name for name, node in run.nodes.items() if node.get("is_observed")][-1] == SUMMED_OUT


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize("steps", [20, 400])  # by Pyro, and by the engine
@pytest.mark.parametrize("guide", ["map", "full_rank"])
def test_variational_fits_are_those_of_the_marginalised_model(guide, steps):
    method = SVI(guide=guide, steps=steps, init="median", draws=5, progress=False)
    one, two = (infer(model, Y.float(), method=method, seed=0) for model in (mixture, mixture_by_hand))
    assert one.attrs["engine"] == two.attrs["engine"] == ("pyro" if steps == 20 else "replay")
    torch.testing.assert_close(one.history["loss"], two.history["loss"], rtol=1e-3, atol=1e-3)
    for name in ("weights", "loc"):
        torch.testing.assert_close(one.draws[name], two.draws[name], rtol=1e-2, atol=1e-2)
    assert one.program.enumerated == ("z",)
    torch.testing.assert_close(one.log_likelihood(Y.float()), two.log_likelihood(Y.float()), rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_members_are_those_of_the_marginalised_model(engine):
    method = Ensemble(members=3, steps=50, init="median", engine=engine, progress=False)
    one, two = (infer(model, Y.float(), method=method, seed=0) for model in (mixture, mixture_by_hand))
    torch.testing.assert_close(one.history["loss"], two.history["loss"], rtol=1e-3, atol=1e-3)
    for name in ("weights", "loc"):
        torch.testing.assert_close(one.draws[name], two.draws[name], rtol=1e-2, atol=1e-2)


# What is refused


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (SVI(batch_size=5), "SVI .*got batch_size=5"),
        (SVI(holdout=0.2), "SVI .*got holdout=0.2"),
        (Ensemble(batch_size=5, holdout=0.1), "Ensemble .*got batch_size=5, holdout=0.1"),
        (Ensemble(gradient="natural"), "Ensemble .*got gradient='natural'"),
        (Ensemble(noise=0.1), "Ensemble .*got noise="),
    ],
)
def test_settings_that_need_single_rows_are_refused(method, named):
    with pytest.raises(ValueError, match=rf"expected {named}"):
        infer(mixture, Y, method=method)


def test_a_continuous_site_that_depends_on_a_discrete_one_is_refused_by_methods_that_run_pyro():
    def model(y=None):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        a = pyro.sample("a", dist.Normal(2.0 * k, 1.0))
        return pyro.sample("y", dist.Normal(a, 1.0), obs=y)

    with pytest.raises(
        ValueError, match="expected continuous latent sites that do not depend on discrete ones, got 'a'"
    ):
        infer(model, torch.tensor(1.0), method=SVI(steps=2, progress=False))


def test_a_model_that_mixes_the_values_with_its_own_dimensions_is_refused():
    """Two rows and two values have one shape, so that torch itself finds no fault."""

    def model(x, y=None):
        k, a = pyro.sample("k", dist.Bernoulli(0.5)), pyro.sample("a", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(a + k * x, 1.0).to_event(1), obs=y)

    rows = torch.tensor([1.0, 2.0])
    for x, reason in ((rows, "another log density at 'y'"), (torch.ones(3), "The size of tensor a")):
        for fit in (Density, lambda *given: infer(given[0], *given[1], method=SVI(steps=2, progress=False))):
            with pytest.raises(ValueError, match=rf"all values of its discrete sites \['k'\] .*, got {reason}"):
                fit(model, (x, x))


def test_a_model_with_discrete_sites_alone_is_refused():
    def model(y=None):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        return pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    with pytest.raises(
        ValueError, match=r"expected continuous latent sites beside the discrete ones, got only \['k'\]"
    ):
        Density(model, (torch.tensor(0.0),))


# Products and sums in log space


def test_sums_in_log_space_are_those_of_torch():
    one, two = torch.rand(3, 4, generator=GENERATOR), torch.rand(4, 3, 5, generator=GENERATOR)
    expected = torch.einsum("ab,bac->ca", one, two)
    torch.testing.assert_close(einsum("ab,bac->ca", one.log(), two.log()), expected.log())
    expected = torch.tensordot(one, two, ([0, 1], [1, 0]))
    torch.testing.assert_close(tensordot(one.log(), two.log(), ([0, 1], [1, 0])), expected.log())
    torch.testing.assert_close(transpose(two, (2, 0, 1)), two.permute(2, 0, 1))
