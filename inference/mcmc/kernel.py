"""One transition of all chains and its adaptation in warm-up: the base class that `HMC` and `NUTS` complete."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.mcmc.adaptation import Moments, StepSize, windows

APART = 3.0  # a chain keeps its own step size if the common step size is more than this many times as long
OWN_GAIN = 0.3  # gain of the log of a chain's own step size, after the approach to the typical set


@dataclass
class State:
    """The state of all chains: positions ``q`` (chain, dim), gradients at ``q``, log density ``value`` (chain,)."""

    q: Tensor
    grad: Tensor
    value: Tensor


class Kernel:
    """One transition of all chains and its adaptation in warm-up; ``settings`` are those of a sampler."""

    uniforms: int

    def __init__(self, settings: Any, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        density = engine.density
        self.inverse_mass = torch.ones(density.dim, dtype=density.dtype, device=density.device)
        self.step = StepSize(settings.target_accept, math.log(settings.step_size or 0.1))
        self.own = torch.full((engine.chains,), self.step.log_step, dtype=torch.double, device=density.device)
        self.first_window, self.ends = windows(settings.warmup)
        self.moments: Moments | None = None
        self.seen = 0

    @property
    def phase(self) -> str:
        """The phase: "approach" (to the typical set), "windows" (mass and lengths adapt), "settle", or "draws"."""
        if self.seen >= self.settings.warmup:
            return "draws"
        if self.seen < self.first_window:
            return "approach"
        return "windows" if self.ends and self.seen < self.ends[-1] else "settle"

    def transition(
        self, state: State, normals: Tensor, uniforms: Tensor, iteration: int
    ) -> tuple[State, dict[str, Tensor]]:
        """The new state, and the statistics of the transition, each (chain,)."""
        raise NotImplementedError

    def begin(self, state: State, normals: Tensor) -> None:
        """Choose a first step size for every chain: one step is accepted with about the target probability."""
        if self.settings.step_size is not None or self.settings.warmup == 0:
            return
        p = normals * self.inverse_mass.rsqrt()
        begin = energy(state.value, p, self.inverse_mass)
        ones = torch.ones(len(state.q), dtype=torch.long, device=p.device)
        log_step, first = self.own.clone(), torch.zeros_like(self.own)
        for _ in range(40):
            start = (state.q, p, state.grad, state.value)
            moved = self.engine.integrate(start, log_step.exp().to(p.dtype), ones, self.inverse_mass)
            change = begin - energy(moved[3], moved[1], self.inverse_mass)
            accepted = torch.nan_to_num(change, nan=-torch.inf).clamp(max=0).exp()
            now = torch.where(accepted > self.settings.target_accept, 1.0, -1.0).double()
            first = torch.where(first == 0, now, first)
            moving = now == first  # doubled or halved until the acceptance crosses the target
            if not bool(moving.any()):
                break
            log_step = log_step + torch.where(moving, first * math.log(2), 0.0)
        self.own = log_step
        self.step = StepSize(self.settings.target_accept, float(self.own.median()))

    def step_sizes(self) -> Tensor:
        """The step size of each chain (chain,): the common step size, except for chains for which it is far too long.

        During the approach to the typical set each chain has its own step size. Later, a chain's own step size follows
        its acceptance slowly. The chain uses it while it is below a third of the common step size: a chain in a narrow
        region would otherwise never move again. Draws use the step sizes from the end of warm-up.
        """
        own = self.own.exp()
        if self.phase == "approach":
            return own
        return torch.where(own * APART < self.step.value, own, self.step.value)

    def learn(self, state: State, statistics: dict[str, Tensor]) -> None:
        """Adapt to the result of one warm-up iteration."""
        acceptance = statistics["acceptance_rate"].double()
        approach = self.phase == "approach"
        well = self.own.exp() * APART >= self.step.value
        target = self.settings.target_accept
        error = acceptance - target
        if approach:
            self.own = self.own + error
            self.step.log_step = float(self.own.median())
            self.step.restart()
        else:
            if bool(well.any()):
                self.step.update(float(acceptance[well].mean()))
            # The error is scaled, so that the step size can rise as fast as it falls even for a target near 1.
            self.own = self.own + OWN_GAIN * torch.where(error > 0, error / (1 - target), error / target)
            self.own = self.own.clamp(max=self.step.log_step)
        if self.phase == "windows":
            self.moments = self.moments or Moments(state.q)
            self.moments.update(state.q, state.grad)
        self.seen += 1
        if self.seen in self.ends and self.moments is not None:
            before = self.inverse_mass
            learnt = self.moments.inverse_mass(self.settings.pooling).to(before.dtype)
            # Squares of huge gradients overflow: such a window says nothing of these entries.
            self.inverse_mass = torch.where(torch.isfinite(learnt) & (learnt > 0), learnt, before)
            self.moments = None
            self.rescale(float((before / self.inverse_mass).log().mean()) / 2)
        if self.seen == self.settings.warmup:
            self._settle()

    def end_warmup(self) -> None:
        """End warm-up now, with the mass of the last complete window and the step size learnt for this mass."""
        self.seen, self.moments = self.settings.warmup, None
        self._settle()

    def _settle(self) -> None:
        self.step.finish()
        self.own = torch.where(self.own.exp() * APART < self.step.value, self.own, self.step.log_step)

    def rescale(self, log_ratio: float) -> None:
        """Convert step sizes to the units of a new mass, which are longer by exp(-log_ratio)."""
        self.step.log_step += log_ratio
        self.own = self.own + log_ratio
        self.step.restart()

    def describe(self) -> str:
        return ""

    def state(self) -> dict[str, Any]:
        moments = self.moments
        return {
            "seen": self.seen,
            "inverse_mass": self.inverse_mass,
            "own": self.own,
            "step": {f.name: getattr(self.step, f.name) for f in fields(StepSize)},
            "moments": None if moments is None else dict(vars(moments)),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.seen, self.inverse_mass = saved["seen"], saved["inverse_mass"]
        self.own = saved["own"]
        for name, value in saved["step"].items():
            setattr(self.step, name, value)
        self.moments = None
        if saved["moments"] is not None:
            self.moments = Moments(saved["moments"]["mean"])
            for name, value in saved["moments"].items():
                setattr(self.moments, name, value)


def energy(value: Tensor, p: Tensor, inverse_mass: Tensor) -> Tensor:
    """The Hamiltonian (chain,), in double precision, because energy differences are small."""
    return (0.5 * p.double() ** 2 * inverse_mass).sum(-1) - value.double()
