"""Hamiltonian Monte Carlo with many chains, all in one batched computation.

Every chain takes as many steps as the others, so no chain waits: the length of the trajectories is one number,
adapted by ChEES and jittered along a Halton sequence, the same for all chains (Hoffman, Radul & Sountsov 2021).
The end of a trajectory is drawn from a window of states instead of being the last one (Neal 1994): the energy of a
stiff posterior oscillates along the trajectory, and a window sees its mean. Use HMC where there are many chains and the
posterior has no regions of very different scale; NUTS otherwise.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from posterity.inference.engine.chains import INTEGRATORS, Engine
from posterity.inference.mcmc.adaptation import TrajectoryLength, halton
from posterity.inference.mcmc.kernel import Kernel, State, energy
from posterity.inference.mcmc.run import Sampler
from posterity.validation import check_choice, check_integer, check_number

FINER = 16  # factor by which the step is shortened to tell a hard edge of the support from a step size too long
LONGER = 16  # times as many steps as usual, at most, for a chain of shorter steps
APPROACH = 8  # steps at most, on the way to the typical set
Point = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HMC(Sampler):
    """Many-chain HMC; beside the fields of `posterity.inference.mcmc.Settings` (``chains``, ``init``, ...):

    - ``trajectory_length``: in units of the adapted metric (not standard deviations); None adapts it by ChEES.
    - ``jitter`` j: lengths are spread evenly over 1 - j to 1 + j times that, along the Halton sequence; 0 for none.
    - ``window``: how many states at either end of a trajectory the draw is made from; 1 is plain HMC. A trajectory
      shorter than two windows has smaller ones.
    - ``max_steps``: no trajectory has more.
    - ``integrator``: "leapfrog" or "minimal_norm".
    """

    target_accept: float = 0.95
    trajectory_length: float | None = None
    jitter: float = 0.5
    window: int = 4
    max_steps: int = 1000
    integrator: str = "leapfrog"
    name: ClassVar[str] = "HMC"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trajectory_length is not None:
            check_number("trajectory_length", self.trajectory_length, "(0, inf)")
        check_number("jitter", self.jitter, "[0, 1]")
        check_integer("max_steps", self.max_steps, 1)
        check_integer("window", self.window, 1)
        check_choice("integrator", self.integrator, sorted(INTEGRATORS))

    def kernel(self, engine: Engine) -> Kernel:
        return HMCKernel(self, engine)


class HMCKernel(Kernel):
    """A trajectory of n steps has n + 1 states: the first ``w`` are the reject window, the last the accept window.

    The state that it starts from is at a random place of the reject window, the same place for all chains, so the
    first steps go backwards. The accept window is taken with probability min(1, its weight / that of the reject
    window), a state of it in proportion to exp(-energy): balanced in detail (Neal 1994, section 4).
    """

    uniforms = 3  # whether to move, which state of the window, and (of the first chain) where the start is in it

    settings: HMC

    def __init__(self, settings: HMC, engine: Engine) -> None:
        super().__init__(settings, engine)
        self.integrator = INTEGRATORS[settings.integrator]
        self.length = TrajectoryLength(settings.trajectory_length or 1.0)
        self.adapts_length = settings.trajectory_length is None
        self.jitter, self.window = settings.jitter, settings.window
        self.centre: Tensor | None = None
        self.accuracy = torch.empty(0)

    def transition(
        self, state: State, normals: Tensor, uniforms: Tensor, iteration: int
    ) -> tuple[State, dict[str, Tensor]]:
        step, chains, device = self.step.value, len(state.q), state.q.device
        sizes = self.step_sizes()
        factor = 1 - self.jitter + 2 * self.jitter * halton(iteration)
        steps = max(1, min(self.settings.max_steps, round(factor * self.length.value / step)))
        if self.phase == "approach":
            steps = min(steps, APPROACH)
        window = min(self.window, (steps + 1) // 2)
        # At random, and not along a sequence: with the place fixed, the transition would not keep the posterior.
        offset = min(window - 1, int(window * float(uniforms[0, 2])))
        p = normals * self.inverse_mass.rsqrt()
        begin = energy(state.value, p, self.inverse_mass)
        start, each = (state.q, p, state.grad, state.value), self._steps(steps, sizes)
        states = self._windows(start, sizes.to(p.dtype), each, window, offset)
        end = energy(states[3], states[1], self.inverse_mass)  # (2 * window, chain)
        log_weight = torch.where(torch.isfinite(end), begin - end, -torch.inf)
        reject, accept = torch.logsumexp(log_weight[:window], 0), torch.logsumexp(log_weight[window:], 0)
        acceptance = (accept - reject).clamp(max=0).exp()
        self.accuracy, left = acceptance, None
        if self.phase != "draws":
            lost = ~torch.isfinite(end[window:]).any(0)
            self.accuracy, left = self._up_to_edge(acceptance, lost, start, begin, sizes.to(p.dtype), each - offset)
        uniforms = uniforms.to(device)
        accepted = uniforms[:, 0] < acceptance
        best = log_weight[window:].amax(0)
        # One state of the window that was taken, by inversion.
        log_weight = torch.where(accepted, log_weight[window:], log_weight[:window])
        cumulative = torch.softmax(log_weight, 0).cumsum(0)
        place = (uniforms[:, 1] > cumulative).sum(0).clamp(max=window - 1) + window * accepted
        column = torch.arange(chains, device=device)
        new = State(states[0][place, column], states[2][place, column], states[3][place, column])
        if self.phase == "windows" and self.adapts_length:
            own = state.q if self.centre is None else self.centre
            centre = state.q.mean(0) if self.settings.pooling == "across" else own
            last = (states[0][-1], states[1][-1])
            self.length.longest = self.settings.max_steps * step / (1 + self.jitter)
            fraction = steps * step / self.length.value
            self.length.update(state.q, *last, centre, self.inverse_mass, acceptance, fraction, left)
        return new, {
            "lp": new.value.double(),
            "energy": end[place, column],
            "n_steps": each.cpu(),
            "acceptance_rate": acceptance,
            "step_size": sizes,
            "diverging": best < -self.settings.max_energy_error,
        }

    def _steps(self, steps: int, sizes: Tensor) -> Tensor:
        """The number of steps of each chain (chain,): more for chains of shorter ones, so that they get as far.

        A chain that goes on with its own short step would otherwise stay in its narrow region.
        """
        longer = (self.step.value / sizes).round().clamp(1, LONGER)
        each = (steps * longer).long().clamp(max=max(steps, self.settings.max_steps))
        return torch.full_like(each, steps) if self.phase == "approach" else each

    def _up_to_edge(
        self, acceptance: Tensor, lost: Tensor, start: Point, begin: Tensor, sizes: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The acceptance from which the step size is learnt: for chains that left the support, that before the edge.

        The second result is the last position (chain, dim) inside the support for trajectories that left it in their
        second half and nan for others, or None if no trajectory left.

        At a hard edge, such as y ~ Uniform(0, t) at t = max(y), the density drops to zero for any step size, and a step
        size that adapted to it would shrink without limit. For the chains ``lost``, bisection finds the last state of
        finite energy. If a sixteenth of the step size also ends outside, the edge is hard, and the acceptance is that
        of this state. The acceptance is 0 if this state is the start, or if the step size is too long.
        """
        if not bool(lost.any()):
            return acceptance, None
        low, high = torch.zeros_like(lost, dtype=torch.long), torch.where(lost, steps, 1)
        last = start
        while bool((high - low > 1).any()):
            middle = torch.where(high - low > 1, (low + high) // 2, low)
            there = self.engine.integrate(last, sizes, middle - low, self.inverse_mass, self.integrator)
            inside = torch.isfinite(energy(there[3], there[1], self.inverse_mass)) & (middle > low)
            high = torch.where(inside | (middle == low), high, middle)
            low = torch.where(inside, middle, low)
            last = tuple(  # type: ignore[assignment]
                torch.where(inside[:, None] if new.ndim > 1 else inside, new, old)
                for new, old in zip(there, last, strict=True)
            )
        finer = self.engine.integrate(last, sizes / FINER, lost * FINER, self.inverse_mass, self.integrator)
        edge = ~torch.isfinite(energy(finer[3], finer[1], self.inverse_mass)) & (low > 0)
        before = (begin - energy(last[3], last[1], self.inverse_mass)).clamp(max=0).exp()
        edge &= lost
        left = torch.where((edge & (2 * low >= steps - 1))[:, None], last[0], torch.nan) if bool(edge.any()) else None
        return torch.where(lost, torch.where(edge, before, 0.0), acceptance), left

    def _windows(self, start: Point, forward: Tensor, steps: Tensor, window: int, offset: int) -> Point:
        """The states of the reject window and of the accept window, each part of shape (2 * window, chain, ...).

        ``steps`` (chain,) are those of the whole trajectory of each chain.
        """
        engine, mass, integrator = self.engine, self.inverse_mass, self.integrator
        ahead = engine.path(start, forward, window - 1 - offset, mass, integrator)
        between = (steps - 2 * (window - 1)).to(forward.device)
        last = tuple(part[-1] for part in ahead)
        first = engine.integrate(last, forward, between, mass, integrator)  # type: ignore[arg-type]
        beyond = engine.path(first, forward, window - 1, mass, integrator)
        parts = [ahead, beyond]
        if offset:
            behind = engine.path(start, -forward, offset, mass, integrator)
            parts = [tuple(part[1:] for part in behind), *parts]  # type: ignore[list-item]
        q, p, grad, value = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        return q, p, grad, value

    def learn(self, state: State, statistics: dict[str, Tensor]) -> None:
        # Each chain's own running mean, forgetting as it goes: warm-up starts far from where it ends.
        weight = 1 / min(self.seen + 2, 20)
        self.centre = state.q if self.centre is None else (1 - weight) * self.centre + weight * state.q
        super().learn(state, {**statistics, "acceptance_rate": self.accuracy})

    def rescale(self, log_ratio: float) -> None:
        super().rescale(log_ratio)
        if self.adapts_length:
            self.length.log_length += log_ratio

    def describe(self) -> str:
        return f"length {self.length.value:.2g}"

    def state(self) -> dict[str, Any]:
        return {
            **super().state(), "log_length": self.length.log_length, "length_count": self.length.count,
            "length_moments": [self.length.first, self.length.second], "centre": self.centre,
        }  # fmt: skip

    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.length.log_length, self.length.count = saved["log_length"], saved["length_count"]
        self.length.first, self.length.second = saved["length_moments"]
        self.centre = saved["centre"]
