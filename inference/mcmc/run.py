"""One run of many chains: warm-up, draws, stopping, checkpoints.

A sampler is a subclass of `Sampler` with its settings, and a `Kernel` with one transition (`kernel`). This module has
the rest.
"""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import RELATIVE_TOLERANCE
from posterity.inference.engine.threads import torch_threads
from posterity.inference.engine.tiers import prepare
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.agreement import Agreement
from posterity.inference.mcmc.climb import AGAIN, starts_at_modes
from posterity.inference.mcmc.clock import Clock, what_was_cut
from posterity.inference.mcmc.kernel import Kernel, State
from posterity.inference.mcmc.monitor import ChainMonitor
from posterity.inference.mcmc.settings import DTYPES, Settings
from posterity.inference.mcmc.starts import density_at, finite_or, start
from posterity.inference.mcmc.streams import Streams
from posterity.inference.mcmc.warnings import find_problems, warn_of
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.recovery import Every
from posterity.inference.training.units import density_units
from posterity.random import child_seeds

CLIMBS = 2  # purpose of the seeds: starts of chains that climb again


class Run:
    """The chains of one call, from the start or from a checkpoint."""

    def __init__(
        self, settings: "Sampler", model: Model, args: tuple[Any, ...], seed: int, site: str | None,
        saved: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.clock = Clock(settings.max_seconds)
        self.settings, self.model, self.args, self.seed = settings, model, args, seed
        if settings.checkpoint is not None:
            checkpoints.check_folder(settings.checkpoint)
            self.fingerprints = checkpoints.fingerprints(args)
        self.program: Program = inspect(model, args, site)
        if self.program.parameters:
            raise ValueError(
                f"expected a model without parameters (a sampler cannot learn them), got {self.program.parameters}"
            )
        self.density = Density(model, args)
        self.iteration, self.warm_seconds, self.warm_gradients = 0, 0.0, 0
        self.positions: list[Tensor] = []
        self.statistics: list[dict[str, Tensor]] = []
        self.diverged: Tensor | None = None  # of the transitions since the last draw that was kept
        self.interrupted, self.timed_out = False, False
        self.said_of_starts: list[str] = []
        self.warmup = settings.warmup  # iterations of warm-up; fewer if the time limit cuts it short
        calls = (settings.warmup + settings.draws * settings.thin) * 10
        with torch_threads(1):
            q = self._first(saved)
            if saved is None:
                self.clock.after("finding starts")
            tier = settings.engine if saved is None else saved["tier"]
            self.engine = prepare(self.density, q, tier=tier, calls=calls, threads=settings.threads)
            self.kernel = settings.kernel(self.engine)
            self.streams = Streams(seed, settings.chains, self.density.dim, self.kernel.uniforms, self.density.dtype)
        if saved is not None:
            self._restore(saved, q)
            self.clock.prepared = self.clock.seconds
            return
        self.clock.after("preparing the engine")
        with torch_threads(self.engine.torch_threads):
            if settings.init == "map":
                q = finite_or(self.engine, self._modes(q), q)
            value, grad = self.engine.gradient(q)
            self.state = State(q, grad, value)
            self.kernel.begin(self.state, self._normals(self.streams.next()[0]))
        self.clock.after(f"starting from init={settings.init!r}" if settings.init == "map" else "the first step size")

    def _modes(self, q: Tensor) -> Tensor:
        def fresh(again: int) -> Tensor:
            return self._starts(child_seeds(self.seed, AGAIN, CLIMBS)[again])

        rows = max((len(a) for a in self.args if isinstance(a, Tensor) and a.ndim), default=1)
        modes, self.said_of_starts = starts_at_modes(self.engine, q, density_units(self.density), rows, fresh)
        return modes

    def _starts(self, seed: int) -> Tensor:
        chains = self.settings.chains
        starts = start(self.density, self.settings.init, self.settings.superchains or chains, seed)
        return starts.repeat_interleave(chains // len(starts), 0)

    def _first(self, saved: dict[str, Any] | None) -> Tensor:
        if saved is not None:
            q = saved["q"].to(self.density.device)
            values = torch.stack([density_at(self.density, one) for one in q])
            bad = ~torch.isfinite(values)
            if bool(bad.any()):
                raise ValueError(
                    f"expected the model of the checkpoint, got a log density of {float(values[bad][0])} where it has "
                    f"{float(saved['value'][bad.cpu()][0]):.9g}"
                )
            return q
        return self._starts(self.seed)

    def _normals(self, normals: Tensor) -> Tensor:
        return normals.to(self.density.device)

    def go(self) -> Posterior:
        settings = self.settings
        monitor = ChainMonitor(self.density, self.program, self.positions, self.statistics)
        with (
            torch_threads(self.engine.torch_threads),
            tqdm(
                total=self.total, initial=self.iteration, desc=settings.name, disable=not settings.progress, leave=False
            ) as bar,
        ):
            mark = self._mark()
            try:
                save_now = Every(settings.checkpoint_seconds)
                while self.iteration < self.total and not self._enough(monitor):
                    mark = self._mark()
                    self._iterate()
                    bar.update()
                    if bar.disable is False and (self.iteration % 10 == 0 or self.iteration == self.total):
                        bar.set_postfix_str(self._describe(monitor), refresh=False)
                    if settings.checkpoint and save_now.due():
                        self.save(settings.checkpoint)
            except KeyboardInterrupt:
                self.interrupted = True
                self._go_back(mark)
        if settings.checkpoint:
            self.save(settings.checkpoint)
        if not self.statistics:
            raise KeyboardInterrupt(f"interrupted in iteration {self.iteration}, before the first draw.{self._go_on()}")
        return self._said(self.posterior(monitor.last()))

    def _said(self, posterior: Posterior) -> Posterior:
        """Warnings point to the line that called `infer`."""
        if self.interrupted:
            kept = f"{len(self.statistics)} of {self.settings.draws} draws of each chain"
            go_on = self._go_on() or " Run it again for the rest; with checkpoint='run.pt' it could go on."
            warn_interrupted(self.settings.name, kept, go_on.strip(), stacklevel=5)
        warn_of(self.settings.name, [str(posterior.attrs["warnings"])], stacklevel=5)
        return posterior

    def _go_on(self) -> str:
        path = self.settings.checkpoint
        return f" Go on with it by resume({str(path)!r}, ...)." if path else ""

    @property
    def total(self) -> int:
        return self.warmup + self.settings.draws * self.settings.thin

    @property
    def drawing(self) -> bool:
        return self.iteration >= self.warmup

    def _mark(self) -> tuple[Any, ...]:
        """Where an iteration began. An interrupt may come between any two lines of it; what is half done is undone."""
        kept = len(self.positions)
        return self.iteration, self.state, self.kernel.state(), self.streams.position, kept, self.diverged

    def _go_back(self, mark: tuple[Any, ...]) -> None:
        iteration, state, kernel, position, kept, diverged = mark
        if self.iteration != iteration:  # the iteration was complete
            return
        self.state, self.diverged = state, diverged
        self.kernel.restore(kernel)
        # A block that was filled in the meantime is the next one, of which nothing is used.
        block = self.streams.block
        self.streams.position = 0 if position == block != self.streams.position else position
        del self.positions[kept:], self.statistics[kept:]

    def _iterate(self) -> None:
        settings, kernel = self.settings, self.kernel
        normals, uniforms = self.streams.current()
        state, statistics = kernel.transition(self.state, self._normals(normals), uniforms, self.iteration)
        position, diverged = None, self.diverged
        if self.drawing:
            # A draw of a thinned chain answers for the transitions before it that were not kept.
            diverged = statistics["diverging"] if diverged is None else diverged | statistics["diverging"]
            statistics = {**statistics, "diverging": diverged}
        if self.drawing and (self.iteration - self.warmup + 1) % settings.thin == 0:
            position = state.q.to("cpu", DTYPES[settings.dtype] if settings.dtype else None, copy=True)
            statistics, diverged = {name: value.cpu() for name, value in statistics.items()}, None
        # An interrupt between these lines must not leave a position without its statistics.
        self.state, self.diverged = state, diverged
        if position is not None:
            self.positions.append(position)
            self.statistics.append(statistics)
        if not self.drawing:
            kernel.learn(state, statistics)
        self.streams.advance()
        self.iteration += 1
        if self.iteration == self.warmup:
            self._warm()
        elif self.warmup == 0 and self.iteration == 1:
            self.warm_seconds = self.engine.seconds

    def _warm(self) -> None:
        self.warm_seconds, self.warm_gradients = self.clock.seconds, self.engine.gradients

    def _enough(self, monitor: ChainMonitor) -> bool:
        """Whether the run ends now; also ends warm-up if its time is over."""
        if not self.drawing and self.iteration and self.clock.warmup_over:
            self._cut_warmup()
        if not self.statistics:
            return False
        target = self.settings.target_ess
        reached = target is not None and monitor.ess() >= target
        self.timed_out = self.clock.over and not reached
        return self.timed_out or reached

    def _cut_warmup(self) -> None:
        """Go on to the draws now. The checkpoint is written before, so a resumed run can do the whole warm-up."""
        if self.settings.checkpoint:
            self.save(self.settings.checkpoint)
        self.kernel.end_warmup()
        self.warmup = self.iteration
        self._warm()

    def _describe(self, monitor: ChainMonitor) -> str:
        recent = self.statistics[-1] if self.statistics else None
        divergent = sum(int(s["diverging"].sum()) for s in self.statistics)
        parts = [f"step {self.kernel.step.value:.1e}", self.kernel.describe()]
        if recent is not None:
            acceptance = float(torch.stack([s["acceptance_rate"] for s in self.statistics[-20:]]).mean())
            parts += [f"{int(recent['n_steps'].max())} steps", f"acceptance {acceptance:.2f}", f"{divergent} divergent"]
            rhat = monitor.rhat()
            parts += [f"R-hat {rhat:.3f}"] if math.isfinite(rhat) else []
            parts += [f"{self.draws_mb:.0f} MB"]
        else:
            parts += ["warm-up"]
        return ", ".join(p for p in parts if p)

    @property
    def draws_mb(self) -> float:
        return sum(p.numel() * p.element_size() for p in self.positions[:1]) * len(self.positions) / 2**20

    def posterior(self, found: Agreement) -> Posterior:
        """The draws so far, and the agreement of the chains."""
        count = min(len(self.positions), len(self.statistics))
        positions = torch.stack(self.positions[:count], 1)
        working = positions.to(self.density.dtype)
        draws = {name: v.to(positions.dtype) for name, v in self.density.constrain(working).items()}
        names = self.statistics[0]
        statistics = {name: torch.stack([s[name] for s in self.statistics[:count]], 1) for name in names}
        warm, drawn = (self.warmup, self.settings.warmup), (count, self.settings.draws if self.timed_out else count)
        path = self.settings.checkpoint
        cut = what_was_cut(self.clock.max_seconds, warm, drawn, path)
        said = self.said_of_starts + find_problems(
            statistics, found, self.settings, draws=draws, cut=cut, interrupted=self.interrupted
        )
        return Posterior(
            self.model,
            self.program,
            draws=draws,
            sample_stats=statistics,
            attrs={
                "method": self.settings.name,
                "settings": self.settings.describe(),
                "seed": self.seed,
                "seconds": self.clock.seconds,
                "warmup_seconds": self.warm_seconds,
                "prepare_seconds": self.engine.seconds,
                "tier": self.engine.tier,
                "engine": self.engine.kind,
                "tier_reason": self.engine.reason,
                "threads": self.engine.threads,
                "gradients": self.engine.gradients,
                "warmup_gradients": self.warm_gradients,
                "draws_mb": self.draws_mb,
                "interrupted": int(self.interrupted),
                "cut": cut,
                "starts": "; ".join(self.said_of_starts),
                "warnings": "; ".join(said),
            },
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Save the state without pickle, first to a temporary name, then renamed. Not after warm-up was cut short."""
        if self.warmup < self.settings.warmup:
            return Path(path)
        settings = {f.name: _plain(getattr(self.settings, f.name)) for f in fields(self.settings)}
        init = self.settings.init
        settings.update(init=init if isinstance(init, str) else "prior", checkpoint=str(path))
        content = {
            "method": self.settings.name,
            "settings": settings,
            "seed": self.seed,
            "site": self.program.site,
            "sites": {s.name: list(s.shape) for s in self.density.sites},
            "arguments": self.fingerprints,
            "iteration": self.iteration,
            "tier": self.engine.tier,
            "threads": self.engine.threads,
            "q": self.state.q, "grad": self.state.grad, "value": self.state.value,
            "kernel": self.kernel.state(),
            "streams": self.streams.state(),
            "positions": self.positions,
            "statistics": self.statistics,
            "diverged": self.diverged,
            "said_of_starts": self.said_of_starts,
            "seconds": self.clock.seconds, "warm_seconds": self.warm_seconds,
            "gradients": self.engine.gradients, "warm_gradients": self.warm_gradients,
        }  # fmt: skip
        return checkpoints.write_checkpoint(content, path)

    def _restore(self, saved: dict[str, Any], q: Tensor) -> None:
        device = self.density.device
        self.state = State(q, saved["grad"].to(device), saved["value"].to(device))
        tolerance = RELATIVE_TOLERANCE.get(self.density.dtype, 1e-6)
        checkpoints.check_density(*self.engine.gradient(q), saved, tolerance)
        self.kernel.restore(saved["kernel"])
        self.streams.restore(saved["streams"])
        self.iteration, self.positions, self.statistics = saved["iteration"], saved["positions"], saved["statistics"]
        self.diverged = saved["diverged"]
        self.said_of_starts = list(saved.get("said_of_starts", []))  # older files have none
        self.clock.earlier, self.warm_seconds = saved["seconds"], saved["warm_seconds"]
        self.engine.gradients, self.warm_gradients = saved["gradients"], saved["warm_gradients"]


@dataclass(frozen=True, kw_only=True)
class Sampler(Settings):
    """Settings with a kernel: `HMC` and `NUTS` are samplers. `run` is called through `posterity.inference.infer`."""

    def kernel(self, engine: Engine) -> Kernel:
        raise NotImplementedError

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """Sample; see `posterity.inference.infer`. An interrupt returns the draws made so far, with a warning.

        A `ConvergenceWarning` names chains that do not agree, do not move or diverge, with or without a progress bar;
        ``attrs["warnings"]`` stores its text. Raises ``TimeoutError`` if ``max_seconds`` is over before the first
        iteration.
        """
        return Run(self, model, args, seed, site).go()


def _plain(value: Any) -> Any:
    """Numbers of NumPy's as Python's: files without pickle hold no others."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
