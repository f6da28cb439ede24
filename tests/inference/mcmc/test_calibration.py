"""A sampler's transition against the model it samples: ranks of simulated truths, and Geweke's joint test.

Both simulate from a network of three tanh units with unknown noise, one data set for each chain. Every chain starts
at the weights that made its data, which are one draw of its posterior, so that nothing has to be warmed up and every
error is known exactly:

- Ranks (Talts et al. 2018, arXiv:1804.06788). The truth is put at a random place of its own chain, which a reversible
  kernel continues in both directions alike (Besag & Clifford 1989; Gandy & Scott 2020, arXiv:2001.06465), and its rank
  among the draws is uniform however slowly the chain moves.
- Joint distribution (Geweke 2004, "Getting it right"). Data given weights and weights given data in turn leave the
  joint distribution as it is; the last state of many independent chains must look like draws of prior and data.

A third test makes the data latent as well, through `infer`: the weights must then follow their prior.

The bars, with the seeds below: a chi squared test of the ranks that refuses a correct sampler once in 10,000 runs,
and 5 standard errors. Samplers with one fault each have to fail them.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from posterity.inference import HMC, MCLMC, NUTS, infer
from posterity.inference.engine import Engine
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.streams import Streams

FALSE_ALARM = 1e-4  # of a test of ranks, all statistics together
ERRORS = 5.0

# The network: 10 weights and the noise, all standard normal

UNITS, ROWS = 3, 10
X = torch.linspace(-2.0, 2.0, ROWS, dtype=torch.double)
AT = torch.tensor([1.0], dtype=torch.double)
SIZE = 3 * UNITS + 2
SPREAD = 0.3  # of log sigma: noise around 1, and never near zero, where no step would fit every chain


def network(position: Tensor, x: Tensor) -> Tensor:
    """f(x) of positions (..., 11): (..., n)."""
    w, b, v = position[..., : 3 * UNITS].unflatten(-1, (3, UNITS)).unbind(-2)
    hidden = torch.tanh(w[..., None, :] * x[:, None] + b[..., None, :])
    return (hidden * v[..., None, :]).sum(-1) / UNITS**0.5 + position[..., -2, None]


def log_sigma(position: Tensor) -> Tensor:
    return SPREAD * position[..., -1]


def log_likelihood(position: Tensor, y: Tensor) -> Tensor:
    squares = ((y - network(position, X)) ** 2).sum(-1)
    return -0.5 * squares * torch.exp(-2 * log_sigma(position)) - ROWS * log_sigma(position)


def log_density(position: Tensor, y: Tensor) -> Tensor:
    """Of one position (11,) and its data (10,), up to a constant."""
    return log_likelihood(position, y) - 0.5 * (position**2).sum(-1)


def simulate_prior(chains: int, generator: np.random.Generator) -> Tensor:
    return torch.tensor(generator.normal(size=(chains, SIZE)))


def simulate_data(position: Tensor, generator: np.random.Generator) -> Tensor:
    noise = torch.tensor(generator.normal(size=(len(position), ROWS)))
    return network(position, X) + log_sigma(position).exp()[:, None] * noise


# Samplers: a transition with everything fixed, each chain with its own data

LogDensity = Callable[[Tensor, Tensor], Tensor]
Sample = Callable[[LogDensity, Tensor, Tensor, int, int], Tensor]
"""(log_density, start (chains, size), data (chains, ...), draws, seed) -> draws (chains, draws, size)"""

STEP, LENGTH = 0.25, 1.5
LONG_STEP = 0.5  # refuses proposals: at 0.25 nearly all are taken, and a wrong acceptance does not show


def plain_hmc(
    step: float = STEP, *, metropolis: bool = True, temperature: float = 1.0, energy: float = 1.0, tilt: float = 0.0
) -> Sample:
    """Textbook HMC (Neal 2011, figure 2) for all chains at once; every setting but ``step`` is a fault.

    Without ``metropolis`` all proposals are taken; momenta have variance ``temperature``; the change of energy is
    multiplied by ``energy``; ``tilt`` times the last coordinate is added to the log density.
    """

    def sample(log_density: LogDensity, start: Tensor, data: Tensor, draws: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        tilted = torch.func.grad_and_value(lambda q, y: log_density(q, y) + tilt * q[-1])
        evaluate = torch.func.vmap(tilted)
        position, made = start, []
        gradient, value = evaluate(position, data)
        for _ in range(draws):
            momentum = temperature**0.5 * torch.randn(start.shape, generator=generator, dtype=start.dtype)
            q, p, g, v = position, momentum, gradient, value
            for _ in range(round(LENGTH / step)):
                p = p + 0.5 * step * g
                q = q + step * p
                g, v = evaluate(q, data)
                p = p + 0.5 * step * g
            change = energy * (v - value - 0.5 * (p**2 - momentum**2).sum(-1))
            uniform = torch.rand(len(start), generator=generator, dtype=start.dtype)
            taken = uniform.log() < change if metropolis else change.isfinite()
            position = torch.where(taken[:, None], q, position)
            gradient, value = torch.where(taken[:, None], g, gradient), torch.where(taken, v, value)
            made.append(position)
        return torch.stack(made, 1)

    return sample


SETTINGS: dict[type, dict[str, Any]] = {
    HMC: {"trajectory_length": LENGTH},
    NUTS: {"max_tree_depth": 6},
    MCLMC: {"adjusted": True, "decoherence_length": LENGTH * SIZE**0.5},  # in the units of a momentum of length 1
}


def library(method: type, step: float = STEP) -> Sample:
    """The transition of `HMC`, `NUTS` or the adjusted `MCLMC` without adaptation."""

    def sample(log_density: LogDensity, start: Tensor, data: Tensor, draws: int, seed: int) -> Tensor:
        batched = torch.func.vmap(torch.func.grad_and_value(log_density))

        def gradient(q: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            slope, value = batched(q, y)
            return value, slope

        chains, size = start.shape
        shape = SimpleNamespace(dim=size, dtype=start.dtype, device=start.device)
        engine = Engine(shape, chains, "eager", gradient, data)
        settings = method(chains=chains, draws=draws, warmup=0, step_size=step, **SETTINGS[method])
        kernel = settings.kernel(engine)
        streams = Streams(seed, chains, size, start.dtype)
        value, slope = gradient(start, data)
        state, made = State(start, slope, value), []
        # HMC's lengths go along a sequence: from its beginning at each call, but for a call of one transition.
        first = seed % 1000 if draws == 1 else 0
        for iteration in range(draws):
            state, _ = kernel.transition(state, streams.numbers(iteration), first + iteration)
            made.append(state.q)
        return torch.stack(made, 1)

    return sample


CORRECT = {
    "plain HMC": plain_hmc(),
    "HMC": library(HMC),
    "HMC, long steps": library(HMC, LONG_STEP),
    "NUTS": library(NUTS),
    "NUTS, long steps": library(NUTS, LONG_STEP),
    "adjusted MCLMC": library(MCLMC, 1.5),
    "adjusted MCLMC, long steps": library(MCLMC, 3.0),
}
BROKEN = {
    "no Metropolis step": plain_hmc(0.3, metropolis=False),
    "momenta too warm": plain_hmc(temperature=1.5),
    "a quarter of the energy": plain_hmc(0.5, energy=0.25),
    "another density": plain_hmc(tilt=-1.0),
}


# Ranks

DATA_SETS, KEPT, THIN = 600, 7, 5


def statistics(position: Tensor, y: Tensor) -> Tensor:
    """f(1), sigma and the log likelihood, (..., 3); ``y`` (..., 10)."""
    return torch.stack([network(position, AT)[..., 0], log_sigma(position), log_likelihood(position, y)], -1)


def truth_ranks(sample: Sample, seed: int) -> np.ndarray:
    """Ranks 0 to ``KEPT`` of the truth's statistics in its chain, (data sets, 3); equal values at random."""
    generator = np.random.default_rng(seed)
    truth = simulate_prior(DATA_SETS, generator)
    y = simulate_data(truth, generator)
    halves = [sample(log_density, truth, y, KEPT * THIN, seed + i)[:, THIN - 1 :: THIN] for i in (1, 2)]
    values = torch.cat([statistics(half, y[:, None]) for half in halves], 1).numpy()
    before = torch.tensor(generator.integers(0, KEPT + 1, size=DATA_SETS))[:, None]
    index = torch.arange(KEPT)
    member = torch.cat([index < before, index < KEPT - before], 1).numpy()[..., None]
    own = statistics(truth, y).numpy()[:, None]
    below, equal = (((values < own) & member).sum(1), ((values == own) & member).sum(1))
    return below + generator.integers(0, equal + 1)


def rank_p(ranks: np.ndarray) -> float:
    """The smallest p of a chi squared test of uniform ranks, times the number of statistics (Bonferroni)."""
    counts = [np.bincount(column, minlength=KEPT + 1) for column in ranks.T]
    return len(counts) * min(float(stats.chisquare(count).pvalue) for count in counts)


# Deep trees of short steps take 20 seconds.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "NUTS" else []) for name in CORRECT]


@pytest.mark.parametrize("name", NAMES)
def test_true_weights_have_uniform_ranks(name):
    assert rank_p(truth_ranks(CORRECT[name], seed=0)) > FALSE_ALARM


@pytest.mark.parametrize("name", BROKEN)
def test_ranks_notice(name):
    assert rank_p(truth_ranks(BROKEN[name], seed=0)) < FALSE_ALARM


def test_the_rank_test_keeps_its_failure_rate():
    """Uniform ranks, 2,000 times: p below 1 % as often as that or (Bonferroni) less, within 5 standard errors."""
    generator = np.random.default_rng(0)
    p = np.array([rank_p(generator.integers(0, KEPT + 1, size=(DATA_SETS, 3))) for _ in range(2000)])
    assert (p < 0.01).mean() < 0.01 + 5 * (0.01 / 2000) ** 0.5


# Geweke's joint distribution test

CHAINS, ROUNDS = 1000, 40


def moments(position: Tensor, y: Tensor) -> Tensor:
    """What the joint distribution is judged on: first and second moments of f, sigma, weights and data, (..., 9)."""
    f, noise, weights = network(position, AT)[..., 0], position[..., -1], position[..., :-1]
    parts = [f, f**2, noise, noise**2, weights.sum(-1), (weights**2).sum(-1)]
    return torch.stack([*parts, y.mean(-1), (y**2).mean(-1), log_likelihood(position, y)], -1)


def joint_errors(sample: Sample, seed: int) -> float:
    """The largest difference of a moment between both simulators, in standard errors; chains are independent."""
    generator = np.random.default_rng(seed)
    position = simulate_prior(CHAINS, generator)
    for i in range(ROUNDS):
        y = simulate_data(position, generator)
        position = sample(log_density, position, y, 1, 1000 * seed + i)[:, -1]
    successive = moments(position, simulate_data(position, generator))
    position = simulate_prior(20 * CHAINS, generator)
    marginal = moments(position, simulate_data(position, generator))
    error = (successive.var(0) / len(successive) + marginal.var(0) / len(marginal)).sqrt()
    return float(((successive.mean(0) - marginal.mean(0)) / error).abs().nan_to_num(np.inf).max())


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_data_in_turn_keep_their_joint_distribution(name):
    assert joint_errors(CORRECT[name], seed=1) < ERRORS


@pytest.mark.parametrize("name", BROKEN)
def test_the_joint_distribution_notices(name):
    assert joint_errors(BROKEN[name], seed=1) > ERRORS


# The same joint through `infer`


def joint_model(nothing):
    """Weights, noise and the data they make; what is observed says nothing."""
    weights = pyro.sample("weights", dist.Normal(X.new_zeros(SIZE - 1), 1.0).to_event(1))
    sigma = pyro.sample("sigma", dist.LogNormal(X.new_zeros(()), SPREAD))
    mean = network(torch.cat([weights, sigma.log()[None] / SPREAD]), X)
    pyro.sample("data", dist.Normal(mean, sigma).to_event(1))
    return pyro.sample("nothing", dist.Normal(0.0 * sigma, 1.0), obs=nothing)


def prior_errors(draws: dict[str, Tensor]) -> float:
    """Moments of the draws (chain, draw, ...) against 200,000 of the prior, in standard errors of both."""
    position = torch.cat([draws["weights"], draws["sigma"].log()[..., None] / SPREAD], -1)
    found = moments(position, draws["data"])
    generator = np.random.default_rng(0)
    known = simulate_prior(200_000, generator)
    known = moments(known, simulate_data(known, generator))
    errors = []
    for values, exact in zip(found.unbind(-1), known.unbind(-1), strict=True):
        own = float(arviz.mcse(values.numpy(), method="mean"))
        errors.append(abs(float(values.mean() - exact.mean())) / np.hypot(own, float(exact.std()) / len(exact) ** 0.5))
    return max(errors)


METHODS = {
    "HMC": HMC(chains=64, warmup=200, draws=200, trajectory_length=1.5, progress=False),
    "NUTS": NUTS(chains=64, warmup=200, draws=200, progress=False),
    "adjusted MCLMC": MCLMC(adjusted=True, chains=64, warmup=200, draws=200, progress=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_with_latent_data_the_weights_follow_their_prior(name):
    posterior = infer(joint_model, torch.zeros((), dtype=torch.double), method=METHODS[name], seed=0)
    assert posterior.attrs["engine"] == "lanes"
    assert prior_errors(posterior.draws) < ERRORS


def test_the_density_is_that_of_the_model():
    """At five positions, up to what does not depend on them: what is sampled by hand above, `infer` is given."""
    generator = np.random.default_rng(0)
    position = simulate_prior(5, generator)
    y = simulate_data(position, generator)
    for q, data in zip(position, y, strict=True):
        values = {"weights": q[:-1], "sigma": log_sigma(q).exp(), "data": data}
        trace = pyro.poutine.trace(pyro.poutine.condition(joint_model, data=values)).get_trace(X.new_zeros(()))
        jacobian = log_sigma(q) + np.log(SPREAD)
        constant = -0.5 * (SIZE + ROWS + 1) * np.log(2 * np.pi)
        torch.testing.assert_close(trace.log_prob_sum() + jacobian, log_density(q, data) + constant)
