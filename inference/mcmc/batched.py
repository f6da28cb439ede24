"""Chains of many data sets in one run of `HMC` or `NUTS`: each chain has its own data.

Each chain moves by its own density and accepts by its own energy, so chains of different data sets are independent
given the adaptation. They share what warm-up learns: one mass matrix, one step size (except for chains for which it is
far too long) and one trajectory length. Any fixed values of these leave every posterior invariant, so sharing them is
exact; it is efficient where the posteriors are alike.
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
from posterity.inference.mcmc.streams import Streams
from posterity.inference.program.trace import Model
from posterity.inference.training.units import density_units

CHAINS = 1024
"""Largest number of chains in one run: it bounds the memory, and the work that an interrupt loses."""

UNSUPPORTED = ("checkpoint", "max_seconds", "target_ess", "superchains")


def check_method(method: Any) -> None:
    """``ValueError`` unless ``method`` is a sampler whose chains can have their own data."""
    if type(method) not in (HMC, NUTS):
        raise ValueError(f"expected HMC(...) or NUTS(...) for batched=True, got {type(method).__name__}")
    given = [name for name in UNSUPPORTED if getattr(method, name) is not None]
    if given:
        raise ValueError(f"expected a method without {', '.join(given)} for batched=True, got {method.describe()}")
    if not isinstance(method.init, str):
        raise ValueError(f"expected init by name for batched=True, got {type(method.init).__name__}")


def sample_batched(
    model: Model, inputs: tuple[Any, ...], data: Sequence[Tensor], method: Sampler, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draws of every site (data set, chain, draw, ...), and the number of divergent transitions (data set,)."""
    densities = Density(model, (*inputs, data[0]))
    with torch_threads(1):
        sets, total = len(data), len(data) * method.chains
        each = torch.stack(list(data)).repeat_interleave(method.chains, 0)
        q = start(densities, method.init, total, seed)
        engine = prepare_chain_data(densities, each, q, recorded=method.engine != "eager")
        kernel = method.kernel(engine)
        if method.init == "map":
            q = climb(engine, q, density_units(densities))[0]  # modes of other data are not compared
        value, grad = engine.gradient(q)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"expected finite log densities at the start, got {int((~torch.isfinite(value)).sum())} "
                             "that are not: choose another init, or batched=False")  # fmt: skip
        streams = Streams(seed, total, densities.dim, kernel.uniforms, densities.dtype)
        state, positions, diverged = State(q, grad, value), [], torch.zeros(total)
        kernel.begin(state, streams.next()[0])
        for iteration in range(method.warmup + method.draws * method.thin):
            state, statistics = kernel.transition(state, *streams.next(), iteration)
            if iteration < method.warmup:
                kernel.learn(state, statistics)
                continue
            diverged += statistics["diverging"]
            if (iteration - method.warmup + 1) % method.thin == 0:
                positions.append(state.q)
    draws = densities.constrain(torch.stack(positions, 1).unflatten(0, (sets, method.chains)))
    return draws, diverged.unflatten(0, (sets, method.chains)).sum(1)


def one_of(draws: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index] for name, value in draws.items()}
