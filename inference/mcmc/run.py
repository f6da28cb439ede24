"""One run of many chains: warm-up, draws, stopping and checkpoints.

A sampler consists of a subclass of `Sampler` with its settings and of a `Kernel` with one transition (`kernel`); this
module runs both.
"""

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine, LanesEngine
from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import RELATIVE_TOLERANCE
from posterity.inference.engine.threads import torch_threads
from posterity.inference.engine.tiers import prepare
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.agreement import Agreement
from posterity.inference.mcmc.climb import RESTARTS, starts_at_modes
from posterity.inference.mcmc.clock import Clock, Pace, describe_cuts
from posterity.inference.mcmc.continuing import ADAPTED, Continuation, Prepared
from posterity.inference.mcmc.kernel import Kernel, State
from posterity.inference.mcmc.monitor import ChainMonitor
from posterity.inference.mcmc.settings import DTYPES, Settings
from posterity.inference.mcmc.starts import Init, density_at, finite_or, start
from posterity.inference.mcmc.streams import BEFORE, Streams
from posterity.inference.mcmc.warnings import find_problems, give_warning
from posterity.inference.posterior import Posterior
from posterity.inference.program.minibatch import count_rows
from posterity.inference.program.reparam import parametrise
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.recovery import Every
from posterity.inference.training.units import density_units
from posterity.progress import progress_bar
from posterity.random import child_seeds

STAGES = 3  # of the preparation: starts, engine, first steps
CALL_SECONDS = 0.2  # duration of one call for many draws, so that limits, interrupts and progress are seen in time
CLIMBS = 2  # purpose of the seeds (see `child_seeds`): new positions of chains that climb again


class Run:
    """The run of one call, from the beginning or from the ``saved`` content of a checkpoint.

    ``prepared`` are the parts of an earlier run with the same model and arguments. A run with other arguments takes its
    starts and its adaptation from ``begin``, the content of an earlier run.
    """

    def __init__(
        self, settings: "Sampler", model: Model, args: tuple[Any, ...], seed: int, site: str | None,
        saved: dict[str, Any] | None = None, prepared: Prepared | None = None, begin: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.clock = Clock(settings.max_seconds)
        self.settings, self.model, self.args, self.seed = settings, model, args, seed
        if settings.checkpoint is not None:
            checkpoints.check_folder(settings.checkpoint)
            self.fingerprints = checkpoints.fingerprints(args)
        if prepared is None:
            self.program: Program = inspect(model, args, site)
            self.parametrisation = parametrise(model, args, self.program, settings.reparam)
            self.density = Density(self.parametrisation.model, args)
        else:
            self.program, self.parametrisation = prepared.program, prepared.parametrisation
            self.density = prepared.density
        self.iteration, self.warm_seconds, self.warm_gradients = 0, 0.0, 0
        self.positions: list[Tensor] = []
        self.statistics: list[dict[str, Tensor]] = []
        self.diverged: Tensor | None = None  # whether a transition diverged since the last stored draw (chain,)
        self.interrupted, self.timed_out = False, False
        self.start_warnings: list[str] = []
        self.warmup = settings.warmup  # iterations of warm-up; fewer if the time limit cuts it short
        with progress_bar(STAGES, f"{settings.name}: preparing", shown=settings.progress) as bar:
            self._prepare(bar, saved, begin, prepared)
            if saved is not None:
                self._restore(saved)
                self.clock.prepared = self.clock.seconds
            else:
                self._begin(bar, begin)

    def _prepare(
        self, bar: Any, saved: dict[str, Any] | None, begin: dict[str, Any] | None, prepared: Prepared | None
    ) -> None:
        """The engine at the first positions, the kernel and the random numbers."""
        settings = self.settings
        calls = (settings.warmup + settings.draws * settings.thin) * 10
        with torch_threads(1):
            bar.set_postfix_str("finding starts")
            self.first = self._first_positions(saved) if begin is None else self._last_positions(begin)
            if saved is None:
                self.clock.end_stage("finding starts")
            bar.update()
            bar.set_postfix_str("recording and compiling the model")
            tier = settings.engine if saved is None else saved["tier"]
            self.engine = (
                prepare(self.density, self.first, tier=tier, calls=calls, threads=settings.threads)
                if prepared is None
                else prepared.engine
            )
            bar.update()
            self.kernel = settings.kernel(self.engine)
            self.streams = Streams(self.seed, settings.chains, self.density.dim, self.density.dtype)

    def _begin(self, bar: Any, begin: dict[str, Any] | None) -> None:
        """The first state, and the first step sizes of a run that does not take them from an earlier one."""
        self.clock.end_stage("preparing the engine")
        q, climbing = self.first, self.settings.init == "map"
        with torch_threads(self.engine.torch_threads):
            if begin is not None:
                self._adopt(begin["kernel"])
                q = begin["q"].to(q)
            elif climbing:
                bar.set_postfix_str("climbing to modes")
                q = finite_or(self.engine, self._modes(q), q)
            value, grad = self.engine.gradient(q)
            self.state = State(q, grad, value)
            if begin is None:
                self.kernel.choose_step_sizes(self.state, self.streams.numbers(BEFORE).normals().to(q.device))
        bar.update()
        self.clock.end_stage("starting from init='map'" if climbing else "the first step size")

    def _modes(self, q: Tensor) -> Tensor:
        """Modes reached from the positions ``q``."""

        def fresh(restart: int) -> Tensor:
            return self._starts(child_seeds(self.seed, RESTARTS, CLIMBS)[restart])

        units, rows = density_units(self.density), count_rows(self.args)
        modes, self.start_warnings = starts_at_modes(self.engine, q, units, rows, fresh)
        return modes

    def _starts(self, seed: int) -> Tensor:
        chains, init = self.settings.chains, self.settings.init
        groups = self.settings.superchains or chains
        if self.settings.reparam is not None and not isinstance(init, str):
            init = self._auxiliary(init, groups, seed)
        starts = start(self.density, init, groups, seed)
        return starts.repeat_interleave(chains // len(starts), 0)

    def _auxiliary(self, init: Init, count: int, seed: int) -> dict[str, Tensor]:
        """Starts of the auxiliary sites for ``init``, which has values of the user's sites."""
        users = Density(self.model, self.args)
        values = users.constrain(start(users, init, count, seed))
        return self.parametrisation.auxiliary_values(self.args, values, users.promoted)

    def _first_positions(self, saved: dict[str, Any] | None) -> Tensor:
        """Starts, or the positions of a checkpoint, where the log density must be finite."""
        if saved is None:
            return self._starts(self.seed)
        q = self._saved_positions(saved)
        values = torch.stack([density_at(self.density, position) for position in q])
        bad = ~torch.isfinite(values)
        if bool(bad.any()):
            raise ValueError(
                f"expected the model of the checkpoint, got a log density of {float(values[bad][0])} instead of "
                f"{float(saved['value'][bad.cpu()][0]):.9g}"
            )
        return q

    def _last_positions(self, begin: dict[str, Any]) -> Tensor:
        """The positions at the end of an earlier run, whose sites must have the same shapes."""
        sites = {s.name: list(s.shape) for s in self.density.sites}
        if sites != begin["sites"]:
            raise ValueError(f"expected data with latent sites of the shapes {begin['sites']}, as before, got {sites}")
        return self._saved_positions(begin)

    def _saved_positions(self, saved: dict[str, Any]) -> Tensor:
        """The positions of the density, which are saved as coordinates in the basis of the kernel."""
        basis, q = saved["kernel"]["basis"], saved["q"].to(self.density.device, self.density.dtype)
        return q.clone() if basis is None else q @ basis.to(q).T

    def _adopt(self, saved: dict[str, Any]) -> None:
        """Begin with the mass, step sizes and trajectory length of an earlier run."""
        own, log_step = self.kernel.state(), saved["step"]["log_step"]
        adapted = {name: saved[name] for name in ADAPTED if name in saved}
        step = {**own["step"], "log_step": log_step, "shrink": log_step}
        self.kernel.restore({**own, **adapted, "step": step})

    def sample(self, stacklevel: int = 5) -> Posterior:
        """Run to the end, or until an interrupt or a limit; returns the draws. Warnings point ``stacklevel`` up."""
        settings = self.settings
        monitor = ChainMonitor(
            self.density, self.program, self.positions, self.statistics, self.parametrisation, self.model
        )
        with (
            torch_threads(self.engine.torch_threads),
            progress_bar(self.total, settings.name, shown=settings.progress, initial=self.iteration) as bar,
        ):
            snapshot = self._snapshot()
            try:
                save_now, pace = Every(settings.checkpoint_seconds), Pace(CALL_SECONDS)
                while self.iteration < self.total and not self._finished(monitor):
                    snapshot, before = self._snapshot(), self.iteration
                    if self.drawing:
                        # An interrupt loses the transitions of a call, so only fast engines make many in one.
                        many = isinstance(self.engine, LanesEngine)
                        self._draw(pace.count(self.total - self.iteration) if many else 1)
                    else:
                        self._adapt()
                    bar.update(self.iteration - before)
                    if bar.disable is False and (self.iteration // 10 > before // 10 or self.iteration == self.total):
                        bar.set_postfix_str(self._describe(monitor), refresh=False)
                    if settings.checkpoint and save_now.due():
                        self.save(settings.checkpoint)
            except KeyboardInterrupt:
                self.interrupted = True
                self._undo(snapshot)
        if settings.checkpoint:
            self.save(settings.checkpoint)
        if not self.statistics:
            message = f"interrupted in iteration {self.iteration}, before the first draw.{self._how_to_resume()}"
            raise KeyboardInterrupt(message)
        return self._warn(self.posterior(monitor.last()), stacklevel)

    def _warn(self, posterior: Posterior, stacklevel: int) -> Posterior:
        """Give the warnings of the run, at the line that called `infer` or `resume`."""
        if self.interrupted:
            returned = f"{len(self.statistics)} of {self.settings.draws} draws of each chain"
            rest = self._how_to_resume() or " Run it again for the rest; a run with checkpoint='run.pt' can be resumed."
            warn_interrupted(self.settings.name, returned, rest.strip(), stacklevel=stacklevel)
        give_warning(self.settings.name, [str(posterior.attrs["warnings"])], stacklevel=stacklevel)
        return posterior

    def _how_to_resume(self) -> str:
        path = self.settings.checkpoint
        return f" Continue with resume({str(path)!r}, ...)." if path else ""

    @property
    def total(self) -> int:
        """Number of iterations of the whole run."""
        return self.warmup + self.settings.draws * self.settings.thin

    @property
    def drawing(self) -> bool:
        """Whether warm-up is over."""
        return self.iteration >= self.warmup

    def _snapshot(self) -> tuple[Any, ...]:
        """The state before an iteration, for `_undo`."""
        stored = len(self.positions)
        return self.iteration, self.state, self.kernel.state(), stored, self.diverged

    def _undo(self, snapshot: tuple[Any, ...]) -> None:
        """Undo transitions that an interrupt left incomplete; an interrupt may come between any two lines."""
        iteration, state, kernel, stored, diverged = snapshot
        if self.iteration != iteration:  # the transitions were complete
            return
        self.state, self.diverged = state, diverged
        self.kernel.restore(kernel)
        del self.positions[stored:], self.statistics[stored:]

    def _adapt(self) -> None:
        """One transition of warm-up, and the adaptation to it."""
        numbers = self.streams.numbers(self.iteration)
        state, statistics = self.kernel.transition(self.state, numbers, self.iteration)
        self.state = self.kernel.adapt(state, statistics)
        self.iteration += 1
        if self.iteration == self.warmup:
            self._record_warmup()

    def _draw(self, count: int) -> None:
        """``count`` transitions after warm-up, and the draws among them that are stored."""
        settings, first, diverged = self.settings, self.iteration, self.diverged
        state, draws, found = self.kernel.transitions(self.state, self.streams, first, count)
        draws = self.engine.positions(draws)
        found = {name: value.cpu() for name, value in found.items()}
        dtype = DTYPES[settings.dtype] if settings.dtype else None
        positions, statistics = [], []
        for index in range(count):
            # A draw of a thinned chain reports the divergences of the transitions that are not stored.
            diverging = found["diverging"][index]
            diverged = diverging if diverged is None else diverged | diverging
            if (first + index - self.warmup + 1) % settings.thin == 0:
                positions.append(draws[index].to("cpu", dtype, copy=settings.thin > 1))
                statistics.append({**{name: value[index] for name, value in found.items()}, "diverging": diverged})
                diverged = None
        # An interrupt between these lines is undone by `_undo`.
        self.state, self.diverged = state, diverged
        self.positions += positions
        self.statistics += statistics
        if self.warmup == 0 and first == 0:
            self.warm_seconds = self.engine.seconds
        self.iteration += count

    def _record_warmup(self) -> None:
        self.warm_seconds, self.warm_gradients = self.clock.seconds, self.engine.gradients

    def _finished(self, monitor: ChainMonitor) -> bool:
        """Whether the run ends before its last iteration; also ends warm-up if its time is over."""
        if not self.drawing and self.iteration and self.clock.warmup_over:
            self._cut_warmup()
        if not self.statistics:
            return False
        target = self.settings.target_ess
        reached = target is not None and monitor.ess() >= target
        self.timed_out = self.clock.over and not reached
        return self.timed_out or reached

    def _cut_warmup(self) -> None:
        """Continue with the draws. The checkpoint is written before, so that a resumed run completes the warm-up."""
        if self.settings.checkpoint:
            self.save(self.settings.checkpoint)
        self.kernel.end_warmup()
        self.warmup = self.iteration
        self._record_warmup()

    def _describe(self, monitor: ChainMonitor) -> str:
        """The text beside the progress bar."""
        recent = self.statistics[-1] if self.statistics else None
        divergent = sum(int(s["diverging"].sum()) for s in self.statistics)
        parts = [f"step {self.kernel.step.value:.1e}", self.kernel.describe()]
        if recent is not None:
            parts += [f"{int(recent['n_steps'].max())} steps"]
            if "acceptance_rate" in recent:
                acceptance = float(torch.stack([s["acceptance_rate"] for s in self.statistics[-20:]]).mean())
                parts += [f"acceptance {acceptance:.2f}"]
            parts += [f"{divergent} divergent"]
            rhat = monitor.rhat()
            parts += [f"R-hat {rhat:.3f}"] if math.isfinite(rhat) else []
            parts += [f"{self.draws_mb:.0f} MB"]
        else:
            parts += ["warm-up"]
        return ", ".join(p for p in parts if p)

    @property
    def draws_mb(self) -> float:
        """Memory of the stored draws in MB."""
        return sum(p.numel() * p.element_size() for p in self.positions[:1]) * len(self.positions) / 2**20

    def posterior(self, agreement: Agreement) -> Posterior:
        """The draws so far, with warnings that depend on the ``agreement`` of the chains."""
        count = min(len(self.positions), len(self.statistics))
        positions = torch.stack(self.positions[:count], 1)
        working = positions.to(self.density.dtype)
        draws = self.parametrisation.user_draws(self.args, self.density.constrain(working))
        draws = {name: v.to(positions.dtype) for name, v in draws.items()}
        names = self.statistics[0]
        statistics = {name: torch.stack([s[name] for s in self.statistics[:count]], 1) for name in names}
        warm, drawn = (self.warmup, self.settings.warmup), (count, self.settings.draws if self.timed_out else count)
        path = self.settings.checkpoint
        cut = describe_cuts(self.clock.max_seconds, warm, drawn, path)
        adapts = getattr(self.settings, "adjusted", True)  # to an acceptance rate, which unadjusted dynamics lack
        settings = replace(self.settings, target_accept=self.kernel.target) if adapts else self.settings
        problems = self.start_warnings + find_problems(
            statistics, agreement, settings, draws=draws, cut=cut, interrupted=self.interrupted
        )
        return Posterior(
            self.model,
            self.program,
            draws=draws,
            sample_stats=statistics,
            attrs={
                "method": self.settings.name,
                "settings": settings.describe(),
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
                "moved_chains": self.kernel.moved,
                "cut": cut,
                "starts": "; ".join(self.start_warnings),
                "warnings": "; ".join(problems),
            },
            continuation=self._continuation(),
        )

    def _continuation(self) -> Continuation:
        prepared = Prepared(self.program, self.parametrisation, self.density, self.engine)
        content = {name: list(part) if isinstance(part, list) else part for name, part in self._content().items()}
        call = self.model, self.args, self.seed, self.program.site
        return Continuation(Run, self.settings, call, {**content, "warmup": self.warmup}, prepared)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint; not after warm-up was cut short, since a resumed run must complete the warm-up."""
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
            "arguments": self.fingerprints,
            **self._content(),
        }
        return checkpoints.write_checkpoint(content, path)

    def _content(self) -> dict[str, Any]:
        """The state of the run."""
        return {
            "sites": {s.name: list(s.shape) for s in self.density.sites},
            "iteration": self.iteration,
            "tier": self.engine.tier,
            "threads": self.engine.threads,
            "q": self.state.q, "grad": self.state.grad, "value": self.state.value,
            "kernel": self.kernel.state(),
            "positions": self.positions,
            "statistics": self.statistics,
            "diverged": self.diverged,
            "said_of_starts": self.start_warnings,
            "seconds": self.clock.seconds, "warm_seconds": self.warm_seconds,
            "gradients": self.engine.gradients, "warm_gradients": self.warm_gradients,
        }  # fmt: skip

    def _restore(self, saved: dict[str, Any]) -> None:
        device = self.density.device
        self.state = State(*(saved[name].to(device) for name in ("q", "grad", "value")))
        tolerance = RELATIVE_TOLERANCE.get(self.density.dtype, 1e-6)
        self.kernel.restore(saved["kernel"])
        checkpoints.check_density(*self.engine.gradient(self.state.q), saved, tolerance)
        self.iteration, self.positions, self.statistics = saved["iteration"], saved["positions"], saved["statistics"]
        self.diverged, self.warmup = saved["diverged"], saved.get("warmup", self.warmup)
        self.start_warnings = list(saved.get("said_of_starts", []))  # older files have none
        self.clock.earlier, self.warm_seconds = saved["seconds"], saved["warm_seconds"]
        self.engine.gradients, self.warm_gradients = saved["gradients"], saved["warm_gradients"]


@dataclass(frozen=True, kw_only=True)
class Sampler(Settings):
    """Settings together with a kernel: the base class of `HMC`, `NUTS` and `MCLMC`."""

    def kernel(self, engine: Engine) -> Kernel:
        """The kernel with these settings."""
        raise NotImplementedError

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """The posterior of ``model(*args)``; called through `posterity.inference.infer`.

        An interrupt returns the draws made so far, with a warning. A `ConvergenceWarning` names chains that disagree,
        never move or diverge; ``attrs["warnings"]`` stores its text.

        Args:
            model: the model.
            *args: the arguments of the model.
            seed: seed of all random numbers.
            guide: ignored.
            site: name of the observed site, if there are several.

        Raises:
            ValueError: the model cannot be sampled.
            TimeoutError: ``max_seconds`` has passed before the first iteration.
            KeyboardInterrupt: the run was interrupted before the first draw.
        """
        return Run(self, model, args, seed, site).sample()


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python, since files without pickle hold no other; any other value unchanged."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
