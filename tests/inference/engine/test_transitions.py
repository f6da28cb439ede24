"""Transitions in compiled code against those of the kernels in Python, with the same random numbers."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.engine import Density
from posterity.inference.engine.chains import LanesEngine
from posterity.inference.engine.tiers import prepare
from posterity.inference.mcmc import HMC, MCLMC, NUTS
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.streams import Streams
from tests.inference.mcmc.cases import X, Y

CHAINS, COUNT = 11, 25  # chains that fill no whole number of vectors


def curved(x, y=None):
    """A line with unknown noise and five scaled weights: six numbers, of different scales, not normal."""
    w = pyro.sample("w", dist.Normal(torch.zeros(5, dtype=torch.double), torch.logspace(-1, 1, 5).double()).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(x.new_tensor(-1.0), x.new_tensor(0.5)))
    mean = w[0] * x[:, 0] + torch.tanh(w[1:]).sum()
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean, noise), obs=y)


@pytest.fixture(scope="module")
def engines():
    density = Density(curved, (X.double(), Y.double()))
    q = 0.1 * torch.randn(CHAINS, density.dim, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    compiled = prepare(density, q, tier="compiled", threads=1)
    assert isinstance(compiled, LanesEngine)
    return compiled, prepare(density, q, tier="eager"), q


METHODS = {
    "HMC": HMC(chains=CHAINS, warmup=0, step_size=0.05, trajectory_length=1.0, progress=False),
    "HMC, plain": HMC(chains=CHAINS, warmup=0, step_size=0.05, trajectory_length=0.5, window=1, progress=False),
    "HMC, minimal norm": HMC(
        chains=CHAINS, warmup=0, step_size=0.1, trajectory_length=1.0, integrator="minimal_norm", progress=False
    ),
    "NUTS": NUTS(chains=CHAINS, warmup=0, step_size=0.1, max_tree_depth=6, progress=False),
    "NUTS, shallow": NUTS(chains=CHAINS, warmup=0, step_size=0.05, max_tree_depth=2, progress=False),
    "MCLMC": MCLMC(chains=CHAINS, warmup=0, step_size=0.3, decoherence_length=1.0, progress=False),
    "MCLMC, leapfrog": MCLMC(
        chains=CHAINS, warmup=0, step_size=0.1, steps=4, decoherence_length=2.0, integrator="leapfrog", progress=False
    ),
    "MCLMC, adjusted": MCLMC(
        chains=CHAINS, warmup=0, adjusted=True, step_size=0.3, decoherence_length=2.0, progress=False
    ),
    "NUTS, long steps": NUTS(chains=CHAINS, warmup=0, step_size=0.2, progress=False),
}


@pytest.mark.parametrize("name", METHODS)
def test_compiled_transitions_are_those_of_the_kernels(name, engines):
    """25 transitions of 11 chains, each from the state of the one before: to 1e-8, and all counts exactly.

    Chains of NUTS go on by themselves in compiled code, and in step in Python.
    """
    compiled, plain, q = engines
    method, density = METHODS[name], compiled.density
    streams = Streams(5, CHAINS, density.dim, density.dtype)
    value, grad = plain.gradient(q)
    results = []
    for engine in (compiled, plain):
        before = engine.gradients
        kernel = method.kernel(engine)
        kernel.inverse_mass = torch.linspace(0.5, 2, density.dim, dtype=torch.double)
        kernel.log_steps = kernel.log_steps + torch.linspace(-1.5, 0, CHAINS).double()  # some chains step shorter
        results.append((*kernel.transitions(State(q, grad, value), streams, 3, COUNT), engine.gradients - before))
    (state, draws, statistics, gradients), (expected, positions, known, counted) = results
    torch.testing.assert_close(draws, positions, rtol=1e-8, atol=1e-8)
    for name_of, values in known.items():
        torch.testing.assert_close(
            statistics[name_of], values, rtol=1e-8, atol=1e-8, msg=lambda text, n=name_of: f"{n}: {text}"
        )
    torch.testing.assert_close(state.grad, expected.grad, rtol=1e-7, atol=1e-7)
    assert torch.equal(state.q, draws[-1])
    assert float((draws[1:] != draws[:-1]).any(-1).double().mean()) > 0.5  # chains moved
    stages = 1 if method.name == "NUTS" else len(kernel.integrator.drifts)
    assert gradients == counted == stages * int(known["n_steps"].sum())


@pytest.mark.parametrize("name", ["HMC", "NUTS", "MCLMC", "MCLMC, adjusted"])
def test_calls_of_any_length_make_the_same_draws(name, engines):
    """Bit for bit: 25 transitions in one call, and in calls of 1, 7 and 17."""
    compiled, _, q = engines
    streams = Streams(5, CHAINS, compiled.density.dim, compiled.density.dtype)
    value, grad = compiled.gradient(q)
    _, whole, _ = METHODS[name].kernel(compiled).transitions(State(q, grad, value), streams, 0, COUNT)
    kernel = METHODS[name].kernel(compiled)
    state, parts, first = State(q, grad, value), [], 0
    for count in (1, 7, 17):
        state, draws, _ = kernel.transitions(state, streams, first, count)
        parts.append(draws)
        first += count
    assert torch.equal(torch.cat(parts), whole)


def test_a_density_that_is_not_finite_somewhere_diverges_in_compiled_code(engines):
    """Beyond |q| = 1 the density of this model is nan: such states are never drawn, and divergences are counted.

    The steps that the microcanonical sampler undoes are those that the kernel in Python undoes.
    """

    def half(y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, dtype=torch.double), 1.0).to_event(1))
        pyro.factor("edge", torch.where(w.abs() < 1, 0.0, torch.nan).sum())
        pyro.sample("y", dist.Normal(w.sum(), 1.0), obs=y)

    density = Density(half, (torch.tensor(0.5, dtype=torch.double),))
    q = torch.zeros(CHAINS, 2, dtype=torch.double)
    engine, plain = prepare(density, q, tier="compiled", threads=1), prepare(density, q, tier="eager")
    value, grad = engine.gradient(q)
    settings = {"chains": CHAINS, "warmup": 0, "step_size": 0.5}
    for method in (HMC(**settings), NUTS(**settings), MCLMC(**settings), MCLMC(adjusted=True, **settings)):
        streams = Streams(0, CHAINS, 2, torch.double)
        start = State(q, grad, value)
        _, draws, found = method.kernel(engine).transitions(start, streams, 0, 200)
        if method.name == "MCLMC":
            _, known, counted = method.kernel(plain).transitions(start, streams, 0, 20)
            torch.testing.assert_close(draws[:20], known, rtol=1e-8, atol=1e-8)
            assert torch.equal(found["diverging"][:20], counted["diverging"])
        assert float(draws.abs().max()) < 1
        assert bool(found["diverging"].any())
        assert bool(torch.isfinite(found["lp"]).all())
