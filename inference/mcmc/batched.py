"""Chains of many data sets in one run of `HMC` or `NUTS`: each chain has the data of its own. Needs torch.

A transition moves every chain by its own density and accepts it by its own energy, so the chains of one data set
never hear of another's; what they share is what warm-up learns: one mass matrix, one step size (but for chains for
which it is far too long) and one length of trajectories, those that are good on average. That is valid, since any
fixed values of them leave every posterior as it is, and efficient where the posteriors are alike.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import replay
from posterity.inference.engine.tiers import RECORDING_ERRORS, RELATIVE_TOLERANCE, Engine, quiet, torch_threads
from posterity.inference.mcmc.climb import climb
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.kernel import Kernel, State
from posterity.inference.mcmc.nuts import NUTS, NUTSKernel, Subtree, Tree
from posterity.inference.mcmc.run import Settings
from posterity.inference.mcmc.starts import start
from posterity.inference.mcmc.streams import Streams
from posterity.inference.program.trace import Model
from posterity.inference.training.units import density_units

CHAINS = 1024
"""How many chains run together at most: memory, and what is lost by an interrupt."""

UNUSED = ("checkpoint", "max_seconds", "target_ess", "superchains")


def check_method(method: Any) -> None:
    """``ValueError`` unless ``method`` is one whose chains can have data of their own."""
    if type(method) not in (HMC, NUTS):
        raise ValueError(f"expected HMC(...) or NUTS(...) for batched=True, got {type(method).__name__}")
    given = [name for name in UNUSED if getattr(method, name) is not None]
    if given or not isinstance(method.init, str):
        raise ValueError(f"expected batched chains without {given or 'starts that are given as values'}, got some")


def sample_batched(
    model: Model, inputs: tuple[Any, ...], data: Sequence[Tensor], method: Settings, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draws of every site (data set, chain, draw, ...), and how many transitions diverged (data set,)."""
    densities = Density(model, (*inputs, data[0]))
    with torch_threads(1):
        sets, total = len(data), len(data) * method.chains
        each = torch.stack(list(data)).repeat_interleave(method.chains, 0)
        q = start(densities, method.init, total, seed)
        engine = DataEngine(densities, each, q, replayed=method.engine != "eager")
        kernel: Kernel = DataNUTS(method, engine) if isinstance(method, NUTS) else method.kernel(engine)
        if method.init == "map":
            q = climb(engine, q, density_units(densities))[0]  # chains of other data are no measure for each other
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


class DataEngine(Engine):
    """The gradient of every chain at its own data: ``rows`` says which chains are in the call, None that all are."""

    def __init__(self, density: Density, data: Tensor, positions: Tensor, *, replayed: bool) -> None:
        self.data, self.rows = data, None
        self._exact = _gradient(density)
        self._recorded = self._record(positions) if replayed else None
        super().__init__(density, len(positions), "eager" if self._recorded is None else "replay", self._own)

    rows: Tensor | None

    def _own(self, q: Tensor) -> tuple[Tensor, Tensor]:
        data = self.data if self.rows is None else self.data[self.rows]
        if self._recorded is None:
            return self._exact(q, data)
        count = len(self.data) - len(q)  # a recording is of a fixed number of chains
        if count:
            q, data = (
                torch.cat([q, q[:1].expand(count, -1)]),
                torch.cat([data, data[:1].expand(count, *data.shape[1:])]),
            )
        value, grad = self._recorded(q, data)
        return (value[:-count], grad[:-count]) if count else (value, grad)

    def _record(self, q: Tensor) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """None where the model cannot be recorded, or is another once it is."""
        try:
            with pyro.validation_enabled(False), torch.no_grad(), quiet():
                recorded = replay(make_fx(self._exact)(q, self.data), q, self.data)
                other = self.data.roll(1, 0)  # data that it has not been recorded with
                found, exact = recorded(q, other), self._exact(q, other)
        except RECORDING_ERRORS:
            return None
        tolerance = RELATIVE_TOLERANCE.get(q.dtype, 1e-6)
        for one, two in zip(found, exact, strict=True):
            one, two = one.reshape(len(q), -1), two.reshape(len(q), -1)
            apart, size = (one - two).norm(dim=1), two.norm(dim=1)
            if not bool((apart <= tolerance * (size + 1))[torch.isfinite(size)].all()):
                return None
        return recorded


def _gradient(density: Density) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def log_joint(q: Tensor, y: Tensor) -> Tensor:
        own = copy.copy(density)
        own.args = (*density.args[:-1], y)
        return own(q)

    batched = torch.func.vmap(torch.func.grad_and_value(log_joint), randomness="error")

    def gradient(q: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = batched(q, data)
        return value, grad

    return gradient


class DataNUTS(NUTSKernel):
    """Trees that are complete leave the computation; the data go with them."""

    engine: DataEngine

    def _subtree(self, tree: Tree, *others: Any) -> Subtree:
        self.engine.rows = tree.chains
        try:
            return super()._subtree(tree, *others)
        finally:
            self.engine.rows = None


def one_of(draws: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index] for name, value in draws.items()}
