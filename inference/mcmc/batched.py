"""Sampling the posteriors of many data sets in one run of `HMC` or `NUTS`, with different data for each chain.

The chains of different data sets are independent given the adaptation. They share the mass matrix, the step size
(except for chains for which it is far too long) and the trajectory length. Every fixed value of these leaves every
posterior invariant, so sharing them is exact. It is efficient if the posteriors are similar.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.chain_data import prepare_chain_data
from posterity.inference.engine.density import Density
from posterity.inference.engine.threads import torch_threads
from posterity.inference.mcmc.climb import climb
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.starts import start
from posterity.inference.mcmc.streams import BEFORE, Streams
from posterity.inference.program.trace import Model
from posterity.inference.training.units import density_units

CHAINS = 1024
"""Largest number of chains in one run, which limits the memory and the work lost by an interrupt."""

UNSUPPORTED = ("checkpoint", "max_seconds", "target_ess", "superchains", "reparam")


def check_method(method: Any) -> None:
    """``ValueError`` unless ``method`` is a sampler whose chains can have their own data."""
    if type(method) not in (HMC, NUTS):
        raise ValueError(f"expected method to be HMC(...) or NUTS(...) with batched=True, got {type(method).__name__}")
    given = [f"{name}={getattr(method, name)!r}" for name in UNSUPPORTED if getattr(method, name) is not None]
    if given:
        raise ValueError(f"{', '.join(UNSUPPORTED)} are not supported with batched=True, got {', '.join(given)}")
    if not isinstance(method.init, str):
        raise ValueError(f"expected init to be a name with batched=True, got {type(method.init).__name__}")


def sample_batched(
    model: Model, inputs: tuple[Any, ...], data: Sequence[Tensor], method: Sampler, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draws of every site (data set, chain, draw, ...), and the number of divergent transitions (data set,).

    Args:
        model: the model.
        inputs: its arguments except the last one.
        data: values of its last argument, one for each data set.
        method: the sampler; ``method.chains`` is the number of chains of each data set.
        seed: seed of all random numbers.

    Raises:
        ValueError: the log density is not finite at a start.
    """
    density = Density(model, (*inputs, data[0]))
    with torch_threads(1):
        sets, total = len(data), len(data) * method.chains
        each = torch.stack(list(data)).repeat_interleave(method.chains, 0)
        q = start(density, method.init, total, seed)
        engine = prepare_chain_data(density, each, q, recorded=method.engine != "eager")
        kernel = method.kernel(engine)
        if method.init == "map":
            q = climb(engine, q, density_units(density))[0]  # modes of different data sets cannot be compared
        value, grad = engine.gradient(q)
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(
                f"expected finite log densities at the start, got {bad} of {total} that are nan or infinite: choose "
                "another init, or batched=False"
            )
        streams = Streams(seed, total, density.dim, density.dtype)
        state, positions, diverged = State(q, grad, value), [], torch.zeros(total)
        kernel.choose_step_sizes(state, streams.numbers(BEFORE).normals())
        for iteration in range(method.warmup + method.draws * method.thin):
            state, statistics = kernel.transition(state, streams.numbers(iteration), iteration)
            if iteration < method.warmup:
                state = kernel.adapt(state, statistics)
                continue
            diverged += statistics["diverging"]
            if (iteration - method.warmup + 1) % method.thin == 0:
                positions.append(engine.positions(state.q))
    draws = density.constrain(torch.stack(positions, 1).unflatten(0, (sets, method.chains)))
    return draws, diverged.unflatten(0, (sets, method.chains)).sum(1)


def one_of(draws: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """The draws (chain, draw, ...) of one data set."""
    return {name: value[index] for name, value in draws.items()}
