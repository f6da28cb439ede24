"""The log joint of a model, its gradient and Hamiltonian trajectories for all chains at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.engine.lanes.build import Compiled

COMPILED = ("lanes", "inductor")


@dataclass(frozen=True)
class Integrator:
    """A symmetric splitting of the Hamiltonian flow: alternating kicks and drifts that begin and end with a kick.

    ``kicks`` and ``drifts`` are fractions of the step size; each sums to one. ``LEAPFROG`` is the standard integrator.
    ``MINIMAL_NORM`` takes two gradients per step and is stable at more than twice the step size (McLachlan 1995;
    Omelyan, Mryglod & Folk 2003, coefficient 0.1931833).
    """

    name: str
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]


_LAMBDA = 0.1931833275037836
LEAPFROG = Integrator("leapfrog", (0.5, 0.5), (1.0,))
MINIMAL_NORM = Integrator("minimal_norm", (_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), (0.5, 0.5))
INTEGRATORS = {i.name: i for i in (LEAPFROG, MINIMAL_NORM)}


class Engine:
    """All chains of one model: gradients and trajectories for positions of shape (chain, dim).

    ``tier`` is the tier in use, and ``kind`` its implementation: "eager", "replay", "inductor" (`torch.compile`) or
    "lanes". ``reason`` explains why a faster tier could not be used; it is empty otherwise. ``seconds`` is the time of
    the preparation, and ``gradients`` counts the gradients of all chains computed since then.

    With ``data`` (chain, ...) each chain has its own data, and the function ``gradient`` takes the positions and the
    data of the same chains.

    With a ``basis`` L (dim, dim), lower triangular, all positions are coordinates z of q = L z, and gradients are those
    with respect to z: in the right basis a correlated density looks round.
    """

    def __init__(
        self, density: Density, chains: int, kind: str, gradient: Callable[..., Any], data: Tensor | None = None
    ) -> None:
        self.density, self.chains, self.kind, self._function, self.data = density, chains, kind, gradient, data
        self.tier = "compiled" if kind in COMPILED else kind
        self.reason = ""
        self.gradients, self.seconds, self.threads = 0, 0.0, 1
        self.basis: Tensor | None = None

    @property
    def torch_threads(self) -> int:
        """The number of threads that torch should use beside this engine."""
        return self.threads

    def use_threads(self, count: int) -> None:
        """Use ``count`` threads from now on."""
        self.threads = count

    def use_basis(self, basis: Tensor | None) -> None:
        """Take positions as coordinates in ``basis`` from now on; None for those of the density."""
        self.basis = basis

    def positions(self, z: Tensor) -> Tensor:
        """The positions (..., dim) of the density with coordinates ``z``."""
        return z if self.basis is None else z @ self.basis.T

    def gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """The log joint (chain,) and its gradient (chain, dim) at positions ``q`` (chain, dim)."""
        self.gradients += self.chains
        with torch.no_grad(), pyro.validation_enabled(False):
            return self._gradient(q, None)

    def _gradient(self, q: Tensor, chains: Tensor | None) -> tuple[Tensor, Tensor]:
        q = self.positions(q)
        if self.data is None:
            value, grad = self._function(q)
        else:
            value, grad = self._function(q, self.data if chains is None else self.data[chains])
        return value, grad if self.basis is None else grad @ self.basis

    def integrate(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, steps: Tensor, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG, chains: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """The state ``(q, p, grad, value)`` after a trajectory of every chain.

        Args:
            state: positions and momenta (chain, dim), and the gradient and log joint at the positions.
            step: step size of each chain (chain,).
            steps: number of steps of each chain (chain,).
            inverse_mass: diagonal of the inverse mass matrix (dim,).
            integrator: the splitting of the Hamiltonian flow.
            chains: indices of the chains in ``state``, for an engine with data; None for all chains.
        """
        q, p, grad, value = state
        self.gradients += int(steps.sum()) * len(integrator.drifts)
        with torch.no_grad(), pyro.validation_enabled(False):
            for s in range(int(steps.max())):
                e = torch.where(steps > s, step, 0.0)[:, None].to(q.dtype)
                for kick, drift in zip(integrator.kicks, integrator.drifts, strict=False):
                    p = p + kick * e * grad
                    q = q + drift * e * inverse_mass * p
                    value, grad = self._gradient(q, chains)
                p = p + integrator.kicks[-1] * e * grad
        return q, p, grad, value

    def path(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, count: int, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """The states after 0, 1, ... ``count`` steps; each part has shape (1 + count, chain, ...).

        The other arguments are those of `integrate`.
        """
        states, one = [state], torch.ones(len(step), dtype=torch.long, device=step.device)
        for _ in range(count):
            states.append(self.integrate(states[-1], step, one, inverse_mass, integrator))
        q, p, grad, value = (torch.stack(parts) for parts in zip(*states, strict=True))
        return q, p, grad, value


class LanesEngine(Engine):
    """An engine whose trajectories run inside compiled code (`lanes`)."""

    def __init__(self, density: Density, chains: int, compiled: Compiled) -> None:
        super().__init__(density, chains, "lanes", compiled.gradient)
        self.compiled = compiled

    @property
    def torch_threads(self) -> int:
        return 1  # the compiled code starts its own threads

    def use_threads(self, count: int) -> None:
        self.threads = self.compiled.use_threads(count)

    def use_basis(self, basis: Tensor | None) -> None:
        super().use_basis(basis)
        self.compiled.use_basis(basis)

    def _gradient(self, q: Tensor, chains: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.compiled.gradient(q)

    def integrate(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, steps: Tensor, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG, chains: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        self.gradients += int(steps.sum()) * len(integrator.drifts)
        return self._call(tuple(t.contiguous().clone() for t in state), step, steps, inverse_mass, integrator, False)

    def path(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, count: int, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        self.gradients += count * len(step) * len(integrator.drifts)
        states = tuple(torch.cat([t[None], t.new_empty(count, *t.shape)]) for t in state)
        return self._call(states, step, torch.full((len(step),), count), inverse_mass, integrator, True)

    def _call(
        self, state: Any, step: Tensor, steps: Tensor, inverse_mass: Tensor, integrator: Integrator, path: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = self.density.dtype
        kicks, drifts = (torch.tensor(c, dtype=dtype) for c in (integrator.kicks, integrator.drifts))
        q, p, grad, value = state
        self.compiled.integrate(
            q, p, grad, value, step.to(dtype).contiguous(), steps.long().contiguous(),
            inverse_mass.to(dtype).contiguous(), kicks, drifts, path,
        )  # fmt: skip
        return state
