"""Hamiltonian Monte Carlo with many chains in one batched computation.

All chains take the same number of steps, so no chain waits for another. The trajectory length is adapted by ChEES and
jittered along a Halton sequence (Hoffman, Radul & Sountsov 2021). The draw is chosen from a window of states at the end
of the trajectory instead of its last state (Neal 1994): the energy of a stiff posterior oscillates along the
trajectory, and a window averages over the oscillation. Use HMC for many chains and a posterior without regions of very
different scale, and NUTS otherwise.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine import transitions
from posterity.inference.engine.chains import INTEGRATORS, Engine, LanesEngine
from posterity.inference.engine.transitions import Transitions, Walk
from posterity.inference.mcmc.adaptation import TrajectoryLength, halton
from posterity.inference.mcmc.kernel import Kernel, State, coordinates, energy
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.streams import Numbers, Streams
from posterity.validation import check_choice, check_integer, check_number

FINER = 16  # factor by which a step is divided to tell a hard edge of the support from a step size that is too long
PLACE = 2**32 - 1  # index of the uniform that is the place of the start in its window
UNEVEN = 3.0  # ratio of scales in the old basis from which a new one changes the length of trajectories
QUARTER = math.pi / 2  # length of a quarter of the orbits of a standard normal
MOST_STEPS = 16  # limit of the steps of a chain with a shorter step size, as a multiple of the usual number
APPROACH = 8  # limit of the steps of a trajectory during the approach to the typical set
Point = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HMC(Sampler):
    """HMC with many chains; further settings are those of `posterity.inference.mcmc.Settings`.

    Args:
        trajectory_length: length in units of the adapted metric (not standard deviations); None adapts it by ChEES.
        jitter: relative half-width j of the jitter. Lengths are spread evenly from 1 - j to 1 + j times
            ``trajectory_length``, along the Halton sequence.
        window: number of states in the window at either end of a trajectory; 1 is plain HMC. A trajectory shorter
            than two windows has smaller windows.
        max_steps: largest number of steps of a trajectory.
        integrator: "leapfrog" or "minimal_norm".

    Raises:
        ValueError: a setting is invalid.
    """

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


@dataclass
class Plan:
    """One trajectory: the usual number of steps and that of each chain, step sizes (chain,), and the windows."""

    usual: int
    steps: Tensor
    sizes: Tensor
    window: int
    offset: int


class HMCKernel(Kernel):
    r"""The windowed transition of HMC (Neal 1994, section 4), which satisfies detailed balance.

    A trajectory of n steps has n + 1 states: the first ``w`` form the reject window, the last ``w`` the accept window.
    The start is at a random place of the reject window, the same for all chains, so the first steps go backwards. A
    window $W$ has the weight $w(W) = \sum_{s \in W} \exp(-H(s))$. The accept window is taken with probability
    $\min(1, w(\text{accept}) / w(\text{reject}))$, and a state of the window taken in proportion to $\exp(-H)$.

    The uniforms of a transition are those of the states (0, 1, ...), of the acceptance, and `PLACE` of the first chain.
    """

    settings: HMC

    def __init__(self, settings: HMC, engine: Engine) -> None:
        super().__init__(settings, engine, diagonal_target=0.95)
        self.integrator = INTEGRATORS[settings.integrator]
        self.length = TrajectoryLength(settings.trajectory_length or 1.0)
        self.adapts_length = settings.trajectory_length is None
        self.jitter, self.window = settings.jitter, settings.window
        self.centre: Tensor | None = None
        self.accuracy = torch.empty(0)

    def transition(self, state: State, numbers: Numbers, iteration: int) -> tuple[State, dict[str, Tensor]]:
        plan = self._plan(numbers, iteration)
        if isinstance(self.engine, LanesEngine):
            done = self._compiled(state, numbers.keys, numbers.transition, [plan])
        else:
            done = self._moved(state, numbers, plan)
        new = State(*done.state)
        self.accuracy, left = done.acceptance[-1].to(new.q.device), None
        if self.phase != "draws":
            self.accuracy, left = self._up_to_edge(self.accuracy, done.lost[-1], state, numbers, plan)  # type: ignore[index]
        if self.phase == "windows" and self.adapts_length and done.end is not None:
            chain_mean = state.q if self.centre is None else self.centre
            centre = state.q.mean(0) if self.settings.pooling == "across" else chain_mean
            step = self.step.value
            self.length.longest = self.settings.max_steps * step / (1 + self.jitter)
            fraction = plan.usual * step / self.length.value
            acceptance = done.acceptance[-1].to(new.q.device)
            self.length.update(state.q, *done.end, centre, self.inverse_mass, acceptance, fraction, left)
        return new, {name: value[-1] for name, value in self.statistics(done, energy=done.energy).items()}

    def transitions(
        self, state: State, streams: Streams, first: int, count: int
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        if not isinstance(self.engine, LanesEngine):
            return super().transitions(state, streams, first, count)
        plans = [self._plan(streams.numbers(iteration), iteration) for iteration in range(first, first + count)]
        done = self._compiled(state, streams.keys, first, plans)
        return State(*done.state), done.draws, self.statistics(done, energy=done.energy)

    def _plan(self, numbers: Numbers, iteration: int) -> "Plan":
        """The trajectory of one transition."""
        sizes = self.step_sizes()
        factor = 1 - self.jitter + 2 * self.jitter * halton(iteration)
        steps = max(1, min(self.settings.max_steps, round(factor * self.length.value / self.step.value)))
        if self.phase == "approach":
            steps = min(steps, APPROACH)
        window = min(self.window, (steps + 1) // 2)
        # The place must be random: at a fixed place the transition would not leave the posterior invariant.
        place = float(numbers.uniforms(PLACE)[0]) if window > 1 else 0.0
        return Plan(steps, self._steps(steps, sizes), sizes, window, min(window - 1, int(window * place)))

    def _compiled(self, state: State, keys: np.ndarray, first: int, plans: list["Plan"]) -> Transitions:
        walk = Walk(
            plans[0].sizes, self.inverse_mass, keys, first, self.settings.max_energy_error, self.integrator
        )  # fmt: skip
        steps = torch.stack([plan.steps for plan in plans])
        window, offset = (torch.tensor([getattr(plan, name) for plan in plans]) for name in ("window", "offset"))
        return transitions.hmc(self.engine, (state.q, state.grad, state.value), walk, steps, window, offset)  # type: ignore[arg-type]

    def _moved(self, state: State, numbers: Numbers, plan: "Plan") -> Transitions:
        """One transition, as hmc.h makes it."""
        device, window = state.q.device, plan.window
        start, begin = self._start(state, numbers)
        states = self._windows(start, plan.sizes.to(start[1].dtype), plan.steps, window, plan.offset)
        end = energy(states[3], states[1], self.inverse_mass)  # (2 * window, chain)
        log_weight = torch.where(torch.isfinite(end), begin - end, -torch.inf)
        totals, places = [], []
        for first in (0, window):
            total, place = torch.full_like(begin, -torch.inf), torch.zeros_like(plan.steps, device=device)
            for index in range(first, first + window):
                total = torch.logaddexp(total, log_weight[index])
                share = torch.nan_to_num((log_weight[index] - total).exp())
                place = torch.where(numbers.uniforms(index).to(device) < share, index, place)
            totals.append(total)
            places.append(place)
        acceptance = (totals[1] - totals[0]).clamp(max=0).exp()
        accepted = numbers.uniforms(2 * window).to(device) < acceptance
        chosen = torch.where(accepted, places[1], places[0])
        column = torch.arange(len(chosen), device=device)
        q, _, grad, value = (part[chosen, column] for part in states)
        return Transitions(
            (q, grad, value), q[None], value.double()[None], end[chosen, column][None], acceptance[None],
            (log_weight[window:].amax(0) < -self.settings.max_energy_error)[None], plan.steps[None],
            lost=~torch.isfinite(end[window:]).any(0)[None], end=(states[0][-1], states[1][-1]),
        )  # fmt: skip

    def _start(self, state: State, numbers: Numbers) -> tuple[Point, Tensor]:
        """The state at the start of a trajectory, and its energy."""
        p = numbers.normals().to(state.q.device) * self.inverse_mass.rsqrt()
        return (state.q, p, state.grad, state.value), energy(state.value, p, self.inverse_mass)

    def _steps(self, steps: int, sizes: Tensor) -> Tensor:
        """The number of steps of each chain (chain,), such that chains with shorter step sizes move as far as others.

        A chain with a short step size would otherwise stay in its narrow region.
        """
        longer = (self.step.value / sizes).round().clamp(1, MOST_STEPS)
        each = (steps * longer).long().clamp(max=max(steps, self.settings.max_steps))
        return torch.full_like(each, steps) if self.phase == "approach" else each

    def _up_to_edge(
        self, acceptance: Tensor, lost: Tensor, state: State, numbers: Numbers, plan: "Plan"
    ) -> tuple[Tensor, Tensor | None]:
        """The acceptance for the adaptation (chain,), and the last positions inside the support (chain, dim).

        At a hard edge, such as y ~ Uniform(0, t) at t = max(y), the density drops to zero for any step size, and a step
        size that adapted to it would shrink without limit. For the chains ``lost``, whose trajectories left the
        support, bisection finds the last state of finite energy. If a step of a sixteenth of the size also leaves the
        support, the edge is hard, and the acceptance is that of this state. The acceptance is 0 if this state is the
        start, or if the step size is too long.

        The positions are nan for chains that did not leave in the second half of their trajectory, and None if no chain
        met a hard edge.

        Args:
            acceptance: acceptance probabilities of the transition (chain,).
            lost: mask of the chains that left the support (chain,).
            state: the state at the start of the trajectory.
            numbers: the random numbers of the transition.
            plan: its trajectory.
        """
        if not bool(lost.any()):
            return acceptance, None
        start, begin = self._start(state, numbers)
        sizes, steps = plan.sizes.to(start[1].dtype), plan.steps - plan.offset
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

    def adapt(self, state: State, statistics: dict[str, Tensor]) -> State:
        # The running mean of each chain has a finite memory, because warm-up starts far from the typical set.
        weight = 1 / min(self.seen + 2, 20)
        self.centre = state.q if self.centre is None else (1 - weight) * self.centre + weight * state.q
        return super().adapt(state, {**statistics, "acceptance_rate": self.accuracy})

    def turned(self, factor: Tensor) -> None:
        if self.centre is not None:
            self.centre = coordinates(self.centre, factor)
        sizes = torch.linalg.svdvals(factor)
        if self.adapts_length and float(sizes[0] / sizes[-1]) > UNEVEN:
            self.length = TrajectoryLength(QUARTER)  # that of before was for a longest direction that is gone

    def copied(self, source: Tensor) -> None:
        if self.centre is not None:
            self.centre = self.centre[source]

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
