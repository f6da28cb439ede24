"""One transition of all chains and its adaptation in warm-up: the base class of all kernels."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.transitions import Transitions
from posterity.inference.mcmc.adaptation import Moments, StepSize, windows
from posterity.inference.mcmc.streams import Numbers, Streams

RATIO = 3.0  # a chain keeps its own step size if the common step size is more than RATIO times as long
DENSE_TARGET = 0.9  # acceptance rate with a dense metric, whose steps are long already
LARGEST = 64  # dimensions of the largest density for which metric="auto" is dense
NEGLIGIBLE, HOPELESS = 20.0, 100.0  # nats of log probability and of log density below the best chain
GAIN = 0.3  # of the log step size of each chain, after the approach to the typical set


@dataclass
class State:
    """The state of all chains: positions ``q`` (chain, dim), gradients at ``q``, log density ``value`` (chain,)."""

    q: Tensor
    grad: Tensor
    value: Tensor


class Kernel:
    """One transition of all chains and its adaptation in warm-up; ``settings`` are those of a sampler."""

    def __init__(self, settings: Any, engine: Engine, diagonal_target: float = 0.8) -> None:
        self.settings, self.engine = settings, engine
        self.dense = settings.metric == "dense" or (settings.metric == "auto" and engine.density.dim <= LARGEST)
        default = DENSE_TARGET if self.dense else diagonal_target
        self.target = default if settings.target_accept is None else settings.target_accept
        density = engine.density
        self.inverse_mass = torch.ones(density.dim, dtype=density.dtype, device=density.device)
        self.step = StepSize(self.target, math.log(settings.step_size or 0.1))
        self.log_steps = torch.full((engine.chains,), self.step.log_step, dtype=torch.double, device=density.device)
        self.first_window, self.ends = windows(settings.warmup)
        self.moments: Moments | None = None
        self.seen = 0  # iterations of warm-up so far
        self.moved = 0  # chains that went on from the position of another

    @property
    def phase(self) -> str:
        """The phase: "approach" (to the typical set), "windows" (mass and length adapt), "settle" or "draws"."""
        if self.seen >= self.settings.warmup:
            return "draws"
        if self.seen < self.first_window:
            return "approach"
        return "windows" if self.ends and self.seen < self.ends[-1] else "settle"

    def transition(self, state: State, numbers: Numbers, iteration: int) -> tuple[State, dict[str, Tensor]]:
        """The new state, and the statistics of the transition, each (chain,)."""
        raise NotImplementedError

    def transitions(
        self, state: State, streams: Streams, first: int, count: int
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        """``count`` transitions after warm-up, of which ``first`` is the number of the first.

        Returns the new state, the positions after each transition (transition, chain, dim), and the statistics of each,
        (transition, chain). Compiled code makes all of them in one call.
        """
        draws, found = [], []
        for iteration in range(first, first + count):
            state, statistics = self.transition(state, streams.numbers(iteration), iteration)
            draws.append(state.q)
            found.append(statistics)
        return state, torch.stack(draws), {name: torch.stack([s[name] for s in found]) for name in found[0]}

    def statistics(self, done: Transitions, **own: Tensor) -> dict[str, Tensor]:
        """The statistics of ``done`` that all kernels have, each (transition, chain), and their ``own``."""
        return {
            "lp": done.value,
            **own,
            "n_steps": done.steps.cpu(),
            "acceptance_rate": done.acceptance,
            "step_size": self.step_sizes().expand_as(done.value),
            "diverging": done.diverging,
        }

    def choose_step_sizes(self, state: State, normals: Tensor) -> None:
        """Choose a first step size for every chain, such that one step has about the target acceptance."""
        if self.settings.step_size is not None or self.settings.warmup == 0:
            return
        log_step, first = self.log_steps.clone(), torch.zeros_like(self.log_steps)
        for _ in range(40):
            now = torch.where(self.acceptable(state, normals, log_step.exp()), 1.0, -1.0).double()
            first = torch.where(first == 0, now, first)
            moving = now == first  # doubled or halved until the acceptance crosses the target
            if not bool(moving.any()):
                break
            log_step = log_step + torch.where(moving, first * math.log(2), 0.0)
        self.log_steps = log_step
        self.step = StepSize(self.target, float(self.log_steps.median()))

    def acceptable(self, state: State, normals: Tensor, sizes: Tensor) -> Tensor:
        """Whether one step of each chain, with momenta from ``normals``, is accepted more often than the target."""
        p = normals * self.inverse_mass.rsqrt()
        begin = energy(state.value, p, self.inverse_mass)
        ones = torch.ones(len(state.q), dtype=torch.long, device=p.device)
        start = (state.q, p, state.grad, state.value)
        moved = self.engine.integrate(start, sizes.to(p.dtype), ones, self.inverse_mass)
        change = begin - energy(moved[3], moved[1], self.inverse_mass)
        accepted = torch.nan_to_num(change, nan=-torch.inf).clamp(max=0).exp()
        return accepted > self.target

    def step_sizes(self) -> Tensor:
        """The step size of each chain (chain,): the common step size, except for chains for which it is far too long.

        During the approach to the typical set each chain has its own step size. Afterwards the step size of a chain
        follows its acceptance slowly, and the chain uses it while it is below a third of the common step size;
        otherwise a chain in a narrow region would never move again. Draws use the step sizes of the end of warm-up.
        """
        sizes = self.log_steps.exp()
        if self.phase == "approach":
            return sizes
        return torch.where(sizes * RATIO < self.step.value, sizes, self.step.value)

    def adapt(self, state: State, statistics: dict[str, Tensor]) -> State:
        """Adapt to the result of one iteration of warm-up; returns the state, in the new basis if it changed."""
        self.adapt_step_sizes(statistics)
        if self.phase == "windows":
            self.moments = self.moments or Moments(state.q, self.dense)
            self.moments.update(state.q, state.grad, state.value)
        self.seen += 1
        if self.seen == self.first_window and self.ends:
            # Nothing is known of the volumes yet, so only chains that are hopeless move.
            state = self._leave(state, state.value.double(), HOPELESS + 50 * math.sqrt(state.q.shape[1]))
            self.step.log_step = float(self.log_steps.median())
            self.step.restart()
        if self.seen in self.ends and self.moments is not None:
            # The volume is uncertain: by a factor e of the variance along every dimension, half a nat each.
            limit = NEGLIGIBLE + 3 * math.sqrt(state.q.shape[1]) + state.q.shape[1] / 2
            state = self._leave(state, self.moments.log_mass(), limit)
            covariance = self.moments.covariance(self.settings.pooling) if self.dense else None
            if covariance is not None:
                state = self._turn(state, covariance)
            else:
                self._stretch(self.moments.inverse_mass(self.settings.pooling))
            self.moments = None
        if self.seen == self.settings.warmup:
            self._settle()
        return state

    def adapt_step_sizes(self, statistics: dict[str, Tensor]) -> None:
        """Adapt the step size of every chain and the common one to one iteration of warm-up."""
        acceptance = statistics["acceptance_rate"].double()
        approach = self.phase == "approach"
        common = self.log_steps.exp() * RATIO >= self.step.value  # the chains that use the common step size
        target = self.target
        error = acceptance - target
        if approach:
            self.log_steps = self.log_steps + error
            self.step.log_step = float(self.log_steps.median())
            self.step.restart()
        else:
            if bool(common.any()):
                self.step.update(float(acceptance[common].mean()))
            # Scaled errors let the step size rise as fast as it falls, also for a target near 1.
            self.log_steps = self.log_steps + GAIN * torch.where(error > 0, error / (1 - target), error / target)
            self.log_steps = self.log_steps.clamp(max=self.step.log_step)

    def _leave(self, state: State, log_mass: Tensor, limit: float) -> State:
        """The state in which chains in regions of negligible probability go on from the positions of others.

        Such a chain cannot come back in the time of a run, and its draws would have far too much weight. The
        probability around a chain is estimated from its moments (`Moments.log_mass`). ``limit`` is in nats below the
        best chain.

        Chains with data of their own never move. Superchains do not move either: their starts must stay independent.
        """
        if self.engine.data is not None or self.settings.superchains is not None:
            return state
        log_mass = torch.where(torch.isfinite(log_mass), log_mass, -torch.inf)
        behind = log_mass.max() - log_mass > limit
        if not bool(behind.any()):
            return state
        good = (~behind).nonzero().flatten()
        source = torch.arange(len(behind), device=good.device)
        source[behind] = good[torch.arange(int(behind.sum()), device=good.device) % len(good)]
        self.moved += int(behind.sum())
        self.log_steps = self.log_steps[source]
        self.copied(source)
        return State(state.q[source].clone(), state.grad[source].clone(), state.value[source].clone())

    def copied(self, source: Tensor) -> None:
        """Let chain c go on as chain ``source[c]`` does."""

    def _stretch(self, estimate: Tensor) -> None:
        """Take a new diagonal of the inverse mass matrix."""
        before = self.inverse_mass
        estimate = estimate.to(before.dtype)
        # Squares of huge gradients overflow; the mass then keeps its value.
        self.inverse_mass = torch.where(torch.isfinite(estimate) & (estimate > 0), estimate, before)
        self.rescale(float((before / self.inverse_mass).log().mean()) / 2)

    def _turn(self, state: State, covariance: Tensor) -> State:
        """The state in a new basis, in which the inverse mass matrix ``covariance`` is the identity."""
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            return state
        before, unit = self.engine.basis, torch.ones_like(self.inverse_mass)
        basis = factor if before is None else before.double() @ factor
        self.engine.use_basis(basis.to(self.inverse_mass.dtype))
        self.rescale(float(self.inverse_mass.double().log().mean()) / 2 - float(factor.diagonal().log().mean()))
        self.inverse_mass = unit
        self.turned(factor)
        return State(coordinates(state.q, factor), (state.grad.double() @ factor).to(state.q.dtype), state.value)

    def turned(self, factor: Tensor) -> None:
        """Convert what the kernel keeps of positions to a basis that is ``factor`` (dim, dim) times the last."""

    def end_warmup(self) -> None:
        """End warm-up with the mass of the last complete window and the step size adapted to this mass."""
        self.seen, self.moments = self.settings.warmup, None
        self._settle()

    def _settle(self) -> None:
        """Fix the step sizes of the draws."""
        self.step.finish()
        shorter = self.log_steps.exp() * RATIO < self.step.value
        self.log_steps = torch.where(shorter, self.log_steps, self.step.log_step)

    def rescale(self, log_ratio: float) -> None:
        """Convert step sizes to a new mass, whose unit of length is exp(-``log_ratio``) times that of the old one."""
        self.step.log_step += log_ratio
        self.log_steps = self.log_steps + log_ratio
        self.step.restart()

    def describe(self) -> str:
        """Text for the progress bar."""
        return ""

    def state(self) -> dict[str, Any]:
        """The state of the adaptation, as tensors and plain values."""
        moments = self.moments
        return {
            "seen": self.seen,
            "moved": self.moved,
            "inverse_mass": self.inverse_mass,
            "basis": self.engine.basis,
            "own": self.log_steps,
            "step": {f.name: getattr(self.step, f.name) for f in fields(StepSize)},
            "moments": None if moments is None else dict(vars(moments)),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a state returned by `state`."""
        self.seen, self.inverse_mass = saved["seen"], saved["inverse_mass"]
        self.engine.use_basis(saved["basis"])
        self.log_steps, self.moved = saved["own"], saved["moved"]
        for name, value in saved["step"].items():
            setattr(self.step, name, value)
        self.moments = None
        if saved["moments"] is not None:
            self.moments = Moments(saved["moments"]["mean"])
            for name, value in saved["moments"].items():
                setattr(self.moments, name, value)


def coordinates(q: Tensor, factor: Tensor) -> Tensor:
    """Coordinates (chain, dim) of positions in the basis ``factor``, lower triangular."""
    return torch.linalg.solve_triangular(factor, q.double().T, upper=False).T.to(q.dtype).contiguous()


def energy(value: Tensor, p: Tensor, inverse_mass: Tensor) -> Tensor:
    r"""The Hamiltonian $\frac12 p^\top M^{-1} p - \log \pi(q)$ (chain,), in float64 because differences are small."""
    return (0.5 * p.double() ** 2 * inverse_mass).sum(-1) - value.double()
