r"""Microcanonical Langevin Monte Carlo: dynamics with a momentum of fixed length, with and without acceptance steps.

A chain moves with speed 1 in the metric of the mass; the gradient only turns its direction (`engine.isokinetic`).
Without an acceptance step a draw costs little and no step is refused, and the error of the integrator is left in the
draws: see `MCLMC`. Use it for posteriors of many dimensions when a known small bias is acceptable, with
``adjusted=True`` or `HMC` to check it.

Sources: Robnik, De Luca, Silverstein & Seljak 2023, "Microcanonical Hamiltonian Monte Carlo" (JMLR 24); Robnik & Seljak
2024, "Fluctuation without dissipation: microcanonical Langevin Monte Carlo"; Robnik, Cohn-Gordon & Seljak 2025,
"Metropolis adjusted microcanonical Hamiltonian Monte Carlo" (arXiv:2503.01707).
"""

import math
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine import transitions
from posterity.inference.engine.chains import INTEGRATORS, Engine, LanesEngine
from posterity.inference.engine.isokinetic import isokinetic_step, refresh, refresh_amount
from posterity.inference.engine.transitions import Transitions, Walk
from posterity.inference.mcmc.adaptation import halton
from posterity.inference.mcmc.energy_variance import FAR_LIMIT, EnergyVariance, decoherence
from posterity.inference.mcmc.kernel import RATIO, Kernel, State, coordinates
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.streams import REFRESHMENT, Numbers, Streams
from posterity.validation import check_choice, check_integer, check_number

TARGET = 0.9  # default acceptance rate of adjusted transitions
JITTER = 0.5  # relative half-width of the lengths of adjusted trajectories, along the Halton sequence
QUARTER = math.pi / 2  # a quarter of the orbits of a standard normal, in units of the root of the dimensions
MOST_STEPS = 1000  # limit of the steps of a transition whose number is not given
APPROACH, WINDOWS = 8, 50  # the same during the approach to the typical set, and while the mass adapts
PROGRESS = 0.1  # energy error of a step in the approach, as a fraction of the gain in log density
COORDINATES = 1024  # largest number of coordinates from which the decoherence length is estimated


@dataclass(frozen=True, kw_only=True)
class MCLMC(Sampler):
    """Microcanonical Langevin Monte Carlo; further settings are those of `posterity.inference.mcmc.Settings`.

    Unadjusted draws are not exact, however many there are: their distribution is the stationary one of the dynamics in
    steps of finite size. It is too narrow with "minimal_norm" and too wide with "leapfrog". At default settings the
    variance of a normal is 2 % too small in any dimension from 5 to 1,000; it is 0.8 % too small with
    ``energy_variance=5e-5``. On nine posteriors of posteriordb (3 to 10 dimensions, 16 chains of 4,000 draws) all means
    are within 0.04 sd and all standard deviations within 4 % of the published ones, of which 0.01 sd and 1 % are
    Monte-Carlo error. The log density adds up the errors of all dimensions. Nothing in R-hat or in effective sample
    sizes shows the bias: compare with a run with ``adjusted=True``, or with a smaller ``energy_variance``.

    Adjusted draws are exact in the limit of many.

    Args:
        adjusted: False makes ``steps`` steps for each draw and refuses none, so that the draws are biased. True makes
            trajectories with an acceptance step, which are exact.
        energy_variance: variance of the energy error of one step, divided by the dimension, to which the step size
            adapts. The bias decreases with it: the step size is proportional to its sixth root. Unused if
            ``adjusted``, where the step size adapts to ``target_accept`` (None is 0.9).
        decoherence_length: length of a path after which its direction is nearly independent, in units of the adapted
            metric; the mean length of trajectories if ``adjusted``. None tunes it.
        steps: steps of each unadjusted transition; None takes those of a path of the decoherence length.
        integrator: "leapfrog" or "minimal_norm".

    Raises:
        ValueError: a setting is invalid, or the model has fewer than two latent dimensions.
    """

    adjusted: bool = False
    energy_variance: float = 5e-4
    decoherence_length: float | None = None
    steps: int | None = None
    integrator: str = "minimal_norm"
    name: ClassVar[str] = "MCLMC"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.adjusted, bool):
            raise ValueError(f"expected adjusted to be True or False, got {self.adjusted!r}")
        check_number("energy_variance", self.energy_variance, "(0, inf)")
        if self.decoherence_length is not None:
            check_number("decoherence_length", self.decoherence_length, "(0, inf)")
        if self.steps is not None:
            check_integer("steps", self.steps, 1)
        check_choice("integrator", self.integrator, sorted(INTEGRATORS))
        if self.adjusted and self.steps is not None:
            raise ValueError(
                "expected steps to be None with adjusted=True, whose trajectories have the mean length "
                f"decoherence_length, got {self.steps}"
            )
        if not self.adjusted and self.target_accept is not None:
            raise ValueError(
                "expected target_accept to be None unless adjusted=True, since no step is refused (set energy_variance "
                f"instead), got {self.target_accept}"
            )

    def kernel(self, engine: Engine) -> Kernel:
        if engine.density.dim < 2:
            raise ValueError(f"expected a model with at least 2 latent dimensions for MCLMC, got {engine.density.dim}")
        return AdjustedKernel(self, engine) if self.adjusted else UnadjustedKernel(self, engine)


class IsokineticKernel(Kernel):
    """What both kernels share: the first step size, and the length, tuned from the last window of warm-up."""

    settings: MCLMC
    orbit: float  # length in units of the root of the total variance

    def __init__(self, settings: MCLMC, engine: Engine) -> None:
        super().__init__(settings, engine, diagonal_target=TARGET)
        self.integrator = INTEGRATORS[settings.integrator]
        self.dim = engine.density.dim
        self.log_length = math.log(settings.decoherence_length or self.orbit * math.sqrt(self.dim))
        self.window: list[Tensor] = []  # positions in the last window of warm-up

    @property
    def scale(self) -> Tensor:
        """The square root of the inverse mass (dim,)."""
        return self.inverse_mass.sqrt()

    def transition(self, state: State, numbers: Numbers, iteration: int) -> tuple[State, dict[str, Tensor]]:
        steps = self.steps_of(iteration)
        if isinstance(self.engine, LanesEngine):
            done = self._compiled(state, numbers.keys, numbers.transition, steps[None])
        else:
            done = self._moved(state, numbers, steps)
        return State(*done.state), {name: value[-1] for name, value in self._statistics(done).items()}

    def transitions(
        self, state: State, streams: Streams, first: int, count: int
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        if not isinstance(self.engine, LanesEngine):
            return super().transitions(state, streams, first, count)
        steps = torch.stack([self.steps_of(iteration) for iteration in range(first, first + count)])
        done = self._compiled(state, streams.keys, first, steps)
        return State(*done.state), done.draws, self._statistics(done)

    def steps_of(self, iteration: int) -> Tensor:
        """The number of steps of each chain (chain,) in one transition."""
        raise NotImplementedError

    def _compiled(self, state: State, keys: np.ndarray, first: int, steps: Tensor) -> Transitions:
        """Transitions in compiled code, with ``steps`` (transition, chain)."""
        raise NotImplementedError

    def _moved(self, state: State, numbers: Numbers, steps: Tensor) -> Transitions:
        """One transition with ``steps`` (chain,), as microcanonical.h makes it."""
        raise NotImplementedError

    def _statistics(self, done: Transitions) -> dict[str, Tensor]:
        return self.statistics(done, energy_error=done.energy)

    def acceptable(self, state: State, normals: Tensor, sizes: Tensor) -> Tensor:
        # Half along the gradient, as a direction soon is far from the typical set.
        slope = state.grad.double() * self.scale
        slope = slope / slope.norm(dim=-1, keepdim=True).clamp_min(sys.float_info.min)
        u = refresh(slope, normals, torch.full_like(sizes, self.dim**-0.5)).to(state.q.dtype)
        start = (state.q, u, state.grad, state.value)
        self.engine.gradients += len(sizes) * len(self.integrator.drifts)
        end, error = isokinetic_step(self.engine, start, sizes, self.scale, self.integrator)
        return self._short(torch.nan_to_num(error, nan=torch.inf), end[3].double() - state.value.double())

    def _short(self, error: Tensor, gain: Tensor) -> Tensor:
        """Whether steps are short enough by their energy errors and gains in log density, each (chain,)."""
        raise NotImplementedError

    @property
    def _most(self) -> int:
        """The largest number of steps of a transition at present."""
        return {"approach": APPROACH, "windows": WINDOWS}.get(self.phase, MOST_STEPS)

    def adapt(self, state: State, statistics: dict[str, Tensor]) -> State:
        begin = self.ends[-2] if len(self.ends) > 1 else self.first_window
        if self.phase == "windows" and self.seen >= begin and self.settings.decoherence_length is None:
            self.window = [*self.window, state.q[:, :: self._stride]]
        state = super().adapt(state, statistics)
        if self.window and self.seen == self.ends[-1]:
            self._tune_length(torch.stack(self.window, 1).double() / self.scale[:: self._stride].double())
            self.window = []
        return state

    @property
    def _stride(self) -> int:
        """Every how many coordinates are used for the length; all if they change with the basis."""
        return 1 if self.dense else -(-self.dim // COORDINATES)

    def turned(self, factor: Tensor) -> None:
        self.window = [coordinates(q, factor) for q in self.window]

    def copied(self, source: Tensor) -> None:
        self.window = [q[source] for q in self.window]

    def end_warmup(self) -> None:
        super().end_warmup()
        self.window = []

    def _tune_length(self, draws: Tensor) -> None:
        """Set the length from draws (chain, draw, coordinate) in units of the metric."""
        raise NotImplementedError

    def _size(self, draws: Tensor) -> float:
        """The root of the total variance (over all coordinates) of such draws."""
        moving = draws - draws.mean((0, 1) if self.settings.pooling == "across" else 1, keepdim=True)
        return math.sqrt(self.dim * float((moving**2).mean((1, 2)).median()))

    def describe(self) -> str:
        return f"length {math.exp(self.log_length):.2g}"

    def state(self) -> dict[str, Any]:
        return {**super().state(), "log_length": self.log_length, "window": list(self.window)}

    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.log_length, self.window = saved["log_length"], list(saved["window"])


class UnadjustedKernel(IsokineticKernel):
    """``steps`` steps, with a refreshment of the direction of half a step's amount before and after each.

    The halves between two steps are one refreshment. A step to a state that is not finite, or whose energy error
    exceeds ``max_energy_error``, is undone, and the chain goes on in a new direction.

    The normals of a transition are, for each refreshment, those of the purpose `REFRESHMENT` and the following ones.
    """

    orbit = 1.0

    def __init__(self, settings: MCLMC, engine: Engine) -> None:
        super().__init__(settings, engine)
        # A direction of zero is replaced by a random one in the first refreshment.
        self.direction = torch.zeros(engine.chains, self.dim, dtype=engine.density.dtype, device=engine.density.device)
        self.errors = EnergyVariance(torch.zeros_like(self.log_steps), torch.zeros_like(self.log_steps))
        self.made = 1  # steps of the last transition
        self.last: Tensor | None = None  # log densities after the last iteration of warm-up (chain,)
        self.common = EnergyVariance(torch.zeros((), dtype=torch.double), torch.zeros((), dtype=torch.double))

    @property
    def steps(self) -> int:
        """The number of steps of a transition at present, for all chains."""
        if self.settings.steps is not None:
            return self.settings.steps
        if self.phase == "approach":  # where the length has no meaning yet
            return APPROACH
        return max(1, min(self._most, round(math.exp(self.log_length) / self.step.value)))

    @property
    def _limit(self) -> float:
        """The energy error above which a step is undone: none in the approach, in which energies are huge."""
        return sys.float_info.max if self.phase == "approach" else self.settings.max_energy_error

    def _amounts(self) -> tuple[Tensor, Tensor]:
        """Amounts of refreshment in half a step and in a whole one, each (chain,)."""
        sizes, length = self.step_sizes(), math.exp(self.log_length)
        return refresh_amount(sizes / 2, length, self.dim), refresh_amount(sizes, length, self.dim)

    def steps_of(self, iteration: int) -> Tensor:
        return torch.full((self.engine.chains,), self.steps)

    def _compiled(self, state: State, keys: np.ndarray, first: int, steps: Tensor) -> Transitions:
        walk = Walk(self.step_sizes(), self.inverse_mass, keys, first, self._limit, self.integrator)
        direction = self.direction.contiguous().clone()
        point = state.q, state.grad, state.value
        done = transitions.microcanonical(self.engine, point, walk, steps, direction, self._amounts())  # type: ignore[arg-type]
        self.direction = direction
        return done

    def _moved(self, state: State, numbers: Numbers, steps: Tensor) -> Transitions:
        device, sizes = state.q.device, self.step_sizes()
        half, full = self._amounts()
        u = refresh(self.direction, numbers.normals(REFRESHMENT).to(device), half)
        point = (state.q, u, state.grad, state.value)
        squares, good = torch.zeros_like(sizes), torch.zeros_like(sizes)
        count = int(steps[0])  # the same for all chains
        for s in range(count):
            new, error = isokinetic_step(self.engine, point, sizes, self.scale, self.integrator)
            fine = (error <= self._limit) & (error > -torch.inf)  # not if it is nan
            squares, good = squares + torch.where(fine, error**2, 0.0), good + fine
            q, u, grad, value = (
                torch.where(fine[:, None] if n.ndim > 1 else fine, n, o) for n, o in zip(new, point, strict=True)
            )
            u = torch.where(fine[:, None], u, 0.0)
            amount = full if s + 1 < count else half
            point = (q, refresh(u, numbers.normals(REFRESHMENT + 1 + s).to(device), amount), grad, value)
        self.engine.gradients += int(steps.sum()) * len(self.integrator.drifts)
        self.direction = point[1]
        return Transitions(
            (point[0], point[2], point[3]), point[0][None], point[3].double()[None],
            (squares / good.clamp_min(1)).sqrt()[None], torch.ones_like(squares)[None], (good < count)[None],
            steps[None],
        )  # fmt: skip

    def _statistics(self, done: Transitions) -> dict[str, Tensor]:
        found = super()._statistics(done)
        del found["acceptance_rate"]  # no step is refused
        return found

    def _short(self, error: Tensor, gain: Tensor) -> Tensor:
        return error**2 < self._desired(gain)

    def _desired(self, gain: Tensor | None = None) -> Tensor | float:
        """The desired mean square of energy errors.

        Far from the typical set it is larger for steps with a ``gain`` in log density (chain,): there steps need no
        accuracy, and those that are accurate would take too long.
        """
        desired = self.dim * self.settings.energy_variance
        if gain is None or self.phase != "approach":
            return desired
        return desired + (PROGRESS * torch.nan_to_num(gain, nan=0.0).clamp(min=0)) ** 2

    def adapt_step_sizes(self, statistics: dict[str, Tensor]) -> None:
        """Adapt every chain's step size to its energy errors, and the common one to those of the chains that use it."""
        sizes = self.step_sizes().double()
        common = self.log_steps.exp() * RATIO >= self.step.value
        error, lp = statistics["energy_error"].to(sizes.device), statistics["lp"].to(sizes.device)
        gain = None if self.last is None else (lp - self.last) / self.steps
        ratio = torch.where(statistics["diverging"].to(sizes.device), torch.inf, error**2 / self._desired(gain))
        self.last = lp
        approach = self.phase == "approach"
        if approach:
            self.errors = self.errors.forgotten().updated(ratio, sizes, self.steps, FAR_LIMIT)
        else:
            self.errors = self.errors.updated(ratio, sizes, self.steps)
        self.log_steps = self.errors.log_step()
        if approach or not bool(common.any()):
            self.step.log_step = float(self.log_steps.median())
        else:
            long = self.phase == "settle"
            self.common = self.common.updated(ratio[common].cpu(), sizes[common].cpu(), self.steps, long=long)
            self.step.log_step = float(self.common.log_step())

    def adapt(self, state: State, statistics: dict[str, Tensor]) -> State:
        self.made = int(statistics["n_steps"][0])
        return super().adapt(state, statistics)

    def rescale(self, log_ratio: float) -> None:
        super().rescale(log_ratio)
        self.errors, self.common = self.errors.forgotten(), self.common.forgotten()

    def copied(self, source: Tensor) -> None:
        super().copied(source)
        self.direction = self.direction[source]
        self.last = None if self.last is None else self.last[source]
        self.errors = EnergyVariance(self.errors.total[source], self.errors.weight[source])

    def _tune_length(self, draws: Tensor) -> None:
        path = self.made * self.step.value  # between two draws
        self.log_length = math.log(decoherence(draws, self._size(draws), path, self.settings.pooling))

    def state(self) -> dict[str, Any]:
        errors = [self.errors.total, self.errors.weight, self.common.total, self.common.weight]
        return {**super().state(), "direction": self.direction, "errors": errors, "last": self.last}

    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.direction, self.last = saved["direction"].to(self.inverse_mass.device), saved["last"]
        total, weight, of_all, weight_of_all = saved["errors"]
        self.errors, self.common = EnergyVariance(total, weight), EnergyVariance(of_all, weight_of_all)


class AdjustedKernel(IsokineticKernel):
    """A trajectory from a fresh direction, whose end is accepted with probability min(1, exp(-energy error)).

    The lengths are spread evenly from 0.5 to 1.5 times the decoherence length, along the Halton sequence. The dynamics
    are reversible, and the energy error is the log of the ratio of densities and volumes, so that the posterior is
    invariant (Robnik, Cohn-Gordon & Seljak 2025).

    The normals of a transition are its direction, and uniform 0 decides on its end.
    """

    orbit = QUARTER

    def steps_of(self, iteration: int) -> Tensor:  # all chains move as far
        length = math.exp(self.log_length) * (1 - JITTER + 2 * JITTER * halton(iteration))
        return (length / self.step_sizes()).round().clamp(1, self._most).long().cpu()

    def _compiled(self, state: State, keys: np.ndarray, first: int, steps: Tensor) -> Transitions:
        walk = Walk(
            self.step_sizes(), self.inverse_mass, keys, first, self.settings.max_energy_error, self.integrator
        )  # fmt: skip
        return transitions.microcanonical(self.engine, (state.q, state.grad, state.value), walk, steps)  # type: ignore[arg-type]

    def _moved(self, state: State, numbers: Numbers, steps: Tensor) -> Transitions:
        device, sizes = state.q.device, self.step_sizes()
        u = refresh(torch.zeros_like(state.q), numbers.normals().to(device), torch.ones_like(sizes))
        point, total = (state.q, u, state.grad, state.value), torch.zeros_like(sizes)
        for s in range(int(steps.max())):
            moving = steps.to(device) > s
            point, error = isokinetic_step(
                self.engine, point, torch.where(moving, sizes, 0.0), self.scale, self.integrator
            )
            total = total + torch.where(moving, error, 0.0)
        self.engine.gradients += int(steps.sum()) * len(self.integrator.drifts)
        total = torch.where(torch.isfinite(total), total, torch.inf)
        acceptance = (-total).clamp(max=0).exp()
        accepted = numbers.uniforms(0).to(device) < acceptance
        q, grad, value = (
            torch.where(accepted[:, None] if n.ndim > 1 else accepted, n, o)
            for n, o in ((point[0], state.q), (point[2], state.grad), (point[3], state.value))
        )
        return Transitions(
            (q, grad, value), q[None], value.double()[None], total[None], acceptance[None],
            (total > self.settings.max_energy_error)[None], steps[None],
        )  # fmt: skip

    def _short(self, error: Tensor, gain: Tensor) -> Tensor:
        return (-error).clamp(max=0).exp() > self.target

    def _tune_length(self, draws: Tensor) -> None:
        self.log_length = math.log(self.orbit * self._size(draws))
