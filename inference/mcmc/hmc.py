"""Hamiltonian Monte Carlo with many chains in one batched computation.

All chains take the same number of steps, so no chain waits for another. The trajectory length is adapted by ChEES and
jittered along a Halton sequence (Hoffman, Radul & Sountsov 2021). The draw is chosen from a window of states at the end
of the trajectory instead of its last state (Neal 1994): the energy of a stiff posterior oscillates along the
trajectory, and a window averages over the oscillation. Use HMC for many chains and a posterior without regions of very
different scale, and NUTS otherwise.
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

FINER = 16  # factor by which a step is divided to tell a hard edge of the support from a step size that is too long
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
    r"""The windowed transition of HMC (Neal 1994, section 4), which satisfies detailed balance.

    A trajectory of n steps has n + 1 states: the first ``w`` form the reject window, the last ``w`` the accept window.
    The start is at a random place of the reject window, the same for all chains, so the first steps go backwards. A
    window $W$ has the weight $w(W) = \sum_{s \in W} \exp(-H(s))$. The accept window is taken with probability
    $\min(1, w(\text{accept}) / w(\text{reject}))$, and a state of the window taken in proportion to $\exp(-H)$.
    """

    uniforms = 3  # the acceptance, the state within its window, and (of the first chain) the place of the start

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
        # The place must be random: at a fixed place the transition would not leave the posterior invariant.
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
        # A state of the window taken, by inversion of its cumulative weights.
        log_weight = torch.where(accepted, log_weight[window:], log_weight[:window])
        cumulative = torch.softmax(log_weight, 0).cumsum(0)
        place = (uniforms[:, 1] > cumulative).sum(0).clamp(max=window - 1) + window * accepted
        column = torch.arange(chains, device=device)
        new = State(states[0][place, column], states[2][place, column], states[3][place, column])
        if self.phase == "windows" and self.adapts_length:
            chain_mean = state.q if self.centre is None else self.centre
            centre = state.q.mean(0) if self.settings.pooling == "across" else chain_mean
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
        """The number of steps of each chain (chain,), such that chains with shorter step sizes move as far as others.

        A chain with a short step size would otherwise stay in its narrow region.
        """
        longer = (self.step.value / sizes).round().clamp(1, MOST_STEPS)
        each = (steps * longer).long().clamp(max=max(steps, self.settings.max_steps))
        return torch.full_like(each, steps) if self.phase == "approach" else each

    def _up_to_edge(
        self, acceptance: Tensor, lost: Tensor, start: Point, begin: Tensor, sizes: Tensor, steps: Tensor
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
            start: the state at the start of the trajectory.
            begin: its energy (chain,).
            sizes: step sizes (chain,).
            steps: numbers of steps from the start to the end of the trajectory (chain,).
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

    def adapt(self, state: State, statistics: dict[str, Tensor]) -> None:
        # The running mean of each chain has a finite memory, because warm-up starts far from the typical set.
        weight = 1 / min(self.seen + 2, 20)
        self.centre = state.q if self.centre is None else (1 - weight) * self.centre + weight * state.q
        super().adapt(state, {**statistics, "acceptance_rate": self.accuracy})

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
