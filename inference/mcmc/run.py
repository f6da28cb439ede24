"""One run of many chains: settings, warm-up, draws, stopping, checkpoints.

A sampler is a `Settings` subclass with its fields, and a `Kernel` with one transition; everything else is here.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from posterity.inference.arguments import read_arguments
from posterity.inference.check import number
from posterity.inference.engine.density import Density
from posterity.inference.engine.tiers import RELATIVE_TOLERANCE, Engine, prepare, torch_threads
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.adaptation import Moments, StepSize, windows
from posterity.inference.mcmc.monitor import Monitor
from posterity.inference.mcmc.starts import Init, ascend, check_init, density_at, start
from posterity.inference.mcmc.streams import Streams
from posterity.inference.mcmc.trouble import trouble
from posterity.inference.posterior import Posterior
from posterity.inference.program import Model, Program, bare_model, in_numbers, inspect

DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
APART = 3.0  # times the common step size is too long for a chain that goes on with its own
OWN_GAIN = 0.3  # of the log of a chain's own step size, after the way to the typical set
POOLINGS = ("within", "across")
# What a run that goes on may have otherwise: all else would mix draws of two kinds, or come too late.
CHANGES = ("draws", "max_seconds", "target_ess", "threads", "progress", "checkpoint", "checkpoint_seconds")


@dataclass
class State:
    """All chains: positions ``q`` (chain, dim), gradient there, log density ``value`` (chain,)."""

    q: Tensor
    grad: Tensor
    value: Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `HMC` and `NUTS` have in common.

    - ``chains``, ``warmup`` iterations of adaptation, ``draws`` kept from each chain, one in ``thin``;
      "diverging" of a draw is that of any transition since the draw before it.
    - ``init``: "prior" (default), "map" (modes found by a batched ascent), "uniform" or "median"; values of the sites,
      (chain, ...); or a `Posterior`, as of an ensemble or SVI, whose draws are taken.
    - ``superchains``: in so many groups of consecutive chains, each chain of a group starts from the same point (for
      `posterity.inference.diagnostics.nested_rhat`); None starts every chain from a point of its own.
    - ``target_accept``: what the step size is adapted to; ``step_size``: the first one, with ``warmup=0`` the only one.
    - ``pooling``: "within" pools the moments of each chain about its own mean (default: chains in other modes do not
      disturb it); "across" takes the variance over all chains.
    - ``engine``: "auto", "eager", "replay" or "compiled" (see `posterity.inference.engine`); ``threads``: None measures
      one against all cores and takes the faster.
    - ``max_seconds``: stop drawing when the run has taken that long; ``target_ess``: when the smallest bulk ESS over
      function values and the log density has reached it. ``draws`` is then the most.
    - ``checkpoint``: a file to write the whole state to, every ``checkpoint_seconds`` and at the end; see `resume`.
    - ``dtype``: in which draws are kept on the CPU, default that of the model ("float32", "float64", "float16").
    """

    draws: int = 500
    warmup: int = 300
    chains: int = 16
    thin: int = 1
    init: Init = "prior"
    superchains: int | None = None
    target_accept: float = 0.8
    step_size: float | None = None
    max_energy_error: float = 1000.0
    pooling: str = "within"
    engine: str = "auto"
    threads: int | None = None
    max_seconds: float | None = None
    target_ess: float | None = None
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 60.0
    dtype: str | None = None
    progress: bool = True

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("warmup", 0), ("chains", 1), ("thin", 1)):
            number(name, getattr(self, name), low=least, integer=True)
        number("target_accept", self.target_accept, low=0, high=1)
        number("max_energy_error", self.max_energy_error, low=0)
        for name in ("step_size", "max_seconds", "target_ess"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), low=0)
        number("checkpoint_seconds", self.checkpoint_seconds, low=0, edges=True)
        if self.threads is not None:
            number("threads", self.threads, low=1, integer=True)
        if self.checkpoint is not None:
            checkpoints.check_path(self.checkpoint)
        groups = self.superchains
        if groups is not None:
            number("superchains", groups, low=1, integer=True)
        if groups is not None and self.chains % groups:
            raise ValueError(f"expected superchains that {self.chains} chains can fill equally, got {groups!r}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"expected pooling from {list(POOLINGS)}, got {self.pooling!r}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"expected dtype from {sorted(DTYPES)}, got {self.dtype!r}")
        if self.target_ess is not None and self.chains * self.draws < self.target_ess:
            raise ValueError(
                f"expected chains * draws of at least target_ess = {self.target_ess:g}, got {self.chains * self.draws}"
            )
        check_init(self.init)

    def kernel(self, engine: Engine) -> "Kernel":
        raise NotImplementedError

    def describe(self) -> str:
        """The settings in one line; a start that was handed in by its type alone."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if not isinstance(self.init, str):
            values["init"] = type(self.init).__name__
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """Sample; see `posterity.inference.infer`. An interrupt returns the draws made so far."""
        return Run(self, model, args, seed, site).go()


class Kernel:
    """One transition of all chains, and what warm-up learns about it."""

    uniforms: int

    def __init__(self, settings: Settings, engine: Engine) -> None:
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
        """ "approach" (the way to the typical set), "windows" (mass and lengths are learnt), "settle", "draws"."""
        if self.seen >= self.settings.warmup:
            return "draws"
        if self.seen < self.first_window:
            return "approach"
        return "windows" if self.ends and self.seen < self.ends[-1] else "settle"

    def transition(
        self, state: State, normals: Tensor, uniforms: Tensor, iteration: int
    ) -> tuple[State, dict[str, Tensor]]:
        """A new state, and the statistics of the transition, each (chain,)."""
        raise NotImplementedError

    def begin(self, state: State, normals: Tensor) -> None:
        """A first step size of every chain: one step of it is accepted with about the target probability."""
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
            moving = now == first  # doubled or halved until it crosses the target
            if not bool(moving.any()):
                break
            log_step = log_step + torch.where(moving, first * math.log(2), 0.0)
        self.own = log_step
        self.step = StepSize(self.settings.target_accept, float(self.own.median()))

    def step_sizes(self) -> Tensor:
        """The step size of each chain (chain,): one for all, but for chains for which that is far too long.

        On the way to the typical set each chain has one of its own. Later that follows the acceptance of its chain
        slowly, and where it is below a third of the common one the chain goes on with it: with the common one a chain
        that is still in a narrow place would never move again. Draws are made with what warm-up ended with.
        """
        own = self.own.exp()
        if self.phase == "approach":
            return own
        return torch.where(own * APART < self.step.value, own, self.step.value)

    def learn(self, state: State, statistics: dict[str, Tensor]) -> None:
        """Take what one warm-up iteration shows."""
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
            # As fast up as down, also where the target leaves little room above it.
            self.own = self.own + OWN_GAIN * torch.where(error > 0, error / (1 - target), error / target)
            self.own = self.own.clamp(max=self.step.log_step)
        if self.phase == "windows":
            self.moments = self.moments or Moments(state.q)
            self.moments.update(state.q, state.grad)
        self.seen += 1
        if self.seen in self.ends and self.moments is not None:
            before = self.inverse_mass
            self.inverse_mass = self.moments.inverse_mass(self.settings.pooling).to(before.dtype)
            self.moments = None
            self.rescale(float((before / self.inverse_mass).log().mean()) / 2)
        if self.seen == self.settings.warmup:
            self.step.finish()
            self.own = torch.where(self.own.exp() * APART < self.step.value, self.own, self.step.log_step)

    def rescale(self, log_ratio: float) -> None:
        """The same steps in the units of a new mass, which are longer by exp(-log_ratio)."""
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
    """The Hamiltonian (chain,), in double precision: differences of it are small."""
    return (0.5 * p.double() ** 2 * inverse_mass).sum(-1) - value.double()


class Run:
    """The chains of one call, from the start or from a checkpoint."""

    def __init__(
        self, settings: Settings, model: Model, args: tuple[Any, ...], seed: int, site: str | None,
        saved: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.begun = time.perf_counter()
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
        self.interrupted, self.earlier = False, 0.0
        calls = (settings.warmup + settings.draws * settings.thin) * 10
        with torch_threads(1):
            q = self._first(saved)
            tier = settings.engine if saved is None else saved["tier"]
            self.engine = prepare(self.density, q, tier=tier, calls=calls, threads=settings.threads)
            self.kernel = settings.kernel(self.engine)
            self.streams = Streams(seed, settings.chains, self.density.dim, self.kernel.uniforms, self.density.dtype)
        if saved is not None:
            self._restore(saved, q)
            return
        with torch_threads(self.engine.torch_threads):
            if settings.init == "map":
                q = ascend(self.engine, q)
            value, grad = self.engine.gradient(q)
            self.state = State(q, grad, value)
            self.kernel.begin(self.state, self._normals(self.streams.next()[0]))

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
        chains = self.settings.chains
        starts = start(self.density, self.settings.init, self.settings.superchains or chains, self.seed)
        return starts.repeat_interleave(chains // len(starts), 0)

    def _normals(self, normals: Tensor) -> Tensor:
        return normals.to(self.density.device)

    def go(self) -> Posterior:
        settings, total = self.settings, self.settings.warmup + self.settings.draws * self.settings.thin
        monitor = Monitor(self.density, self.program, settings)
        for position, kept in zip(self.positions, self.statistics, strict=True):  # of a run that goes on
            monitor.add(position.to(self.density.device, self.density.dtype), kept["lp"].to(self.density.device))
        last_saved = time.perf_counter()
        with (
            torch_threads(self.engine.torch_threads),
            tqdm(
                total=total, initial=self.iteration, desc=settings.name, disable=not settings.progress, leave=False
            ) as bar,
        ):
            try:
                while self.iteration < total:
                    mark = self._mark()
                    self._iterate(monitor)
                    bar.update()
                    if bar.disable is False and (self.iteration % 10 == 0 or self.iteration == total):
                        bar.set_postfix_str(self._describe(monitor), refresh=False)
                    if settings.checkpoint and time.perf_counter() - last_saved > settings.checkpoint_seconds:
                        self.save(settings.checkpoint)
                        last_saved = time.perf_counter()
                    if self.iteration >= settings.warmup and self._enough(monitor):
                        break
            except KeyboardInterrupt:
                self.interrupted = True
                self._go_back(mark)
        if settings.checkpoint:
            self.save(settings.checkpoint)
        if not self.statistics:
            raise KeyboardInterrupt("interrupted before the first draw")
        posterior = self.posterior(monitor.last())
        if settings.progress and posterior.attrs["trouble"]:
            warnings.warn(f"{settings.name}: {posterior.attrs['trouble']}", RuntimeWarning, stacklevel=4)
        return posterior

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

    def _iterate(self, monitor: Monitor) -> None:
        settings, kernel = self.settings, self.kernel
        normals, uniforms = self.streams.current()
        state, statistics = kernel.transition(self.state, self._normals(normals), uniforms, self.iteration)
        position, diverged = None, self.diverged
        if self.iteration >= settings.warmup:
            # A draw of a thinned chain answers for the transitions before it that were not kept.
            diverged = statistics["diverging"] if diverged is None else diverged | statistics["diverging"]
            statistics = {**statistics, "diverging": diverged}
        if self.iteration >= settings.warmup and (self.iteration - settings.warmup + 1) % settings.thin == 0:
            position = state.q.to("cpu", DTYPES[settings.dtype] if settings.dtype else None, copy=True)
            statistics, diverged = {name: value.cpu() for name, value in statistics.items()}, None
        # An interrupt between these lines must not leave a position without its statistics.
        self.state, self.diverged = state, diverged
        if position is not None:
            self.positions.append(position)
            self.statistics.append(statistics)
            monitor.add(state.q, state.value)
        if self.iteration < settings.warmup:
            kernel.learn(state, statistics)
        self.streams.advance()
        self.iteration += 1
        if self.iteration == settings.warmup:
            self.warm_seconds = self.seconds
            self.warm_gradients = self.engine.gradients
        elif settings.warmup == 0 and self.iteration == 1:
            self.warm_seconds = self.engine.seconds

    @property
    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.begun

    def _enough(self, monitor: Monitor) -> bool:
        settings = self.settings
        if settings.max_seconds is not None and self.seconds > settings.max_seconds and len(self.statistics) >= 1:
            return True
        return settings.target_ess is not None and monitor.ess() >= settings.target_ess

    def _describe(self, monitor: Monitor) -> str:
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

    def posterior(self, rhat: float = math.inf) -> Posterior:
        """The draws so far; ``rhat`` is the largest of what the model predicts, where it is known."""
        count = min(len(self.positions), len(self.statistics))
        positions = torch.stack(self.positions[:count], 1)
        working = positions.to(self.density.dtype)
        draws = {name: v.to(positions.dtype) for name, v in self.density.constrain(working).items()}
        names = self.statistics[0]
        statistics = {name: torch.stack([s[name] for s in self.statistics[:count]], 1) for name in names}
        return Posterior(
            self.model,
            self.program,
            draws=draws,
            sample_stats=statistics,
            attrs={
                "method": self.settings.name,
                "settings": self.settings.describe(),
                "seed": self.seed,
                "seconds": self.seconds,
                "warmup_seconds": self.warm_seconds,
                "prepare_seconds": self.engine.seconds,
                "tier": self.engine.tier,
                "threads": self.engine.threads,
                "gradients": self.engine.gradients,
                "warmup_gradients": self.warm_gradients,
                "draws_mb": self.draws_mb,
                "interrupted": int(self.interrupted),
                "trouble": "; ".join(trouble(statistics, rhat)),
            },
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """The whole state, without pickle: first to a temporary name, then renamed."""
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
            "seconds": self.seconds, "warm_seconds": self.warm_seconds,
            "gradients": self.engine.gradients, "warm_gradients": self.warm_gradients,
        }  # fmt: skip
        return checkpoints.write(content, path)

    def _restore(self, saved: dict[str, Any], q: Tensor) -> None:
        device = self.density.device
        self.state = State(q, saved["grad"].to(device), saved["value"].to(device))
        tolerance = RELATIVE_TOLERANCE.get(self.density.dtype, 1e-6)
        checkpoints.check_density(*self.engine.gradient(q), saved, tolerance)
        self.kernel.restore(saved["kernel"])
        self.streams.restore(saved["streams"])
        self.iteration, self.positions, self.statistics = saved["iteration"], saved["positions"], saved["statistics"]
        self.diverged = saved["diverged"]
        self.earlier, self.warm_seconds = saved["seconds"], saved["warm_seconds"]
        self.engine.gradients, self.warm_gradients = saved["gradients"], saved["warm_gradients"]


def _plain(value: Any) -> Any:
    """Numbers of NumPy's as Python's: files without pickle hold no others."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


def resume(
    path: str | Path, model: Any, *args: Any, methods: dict[str, Callable[..., Settings]], **changes: Any
) -> Posterior:
    """See `posterity.inference.mcmc.resume`."""
    other = sorted(changes.keys() - set(CHANGES))
    if other:
        raise ValueError(f"expected changes to {list(CHANGES)}: only what follows can change, got {other}")
    args = read_arguments(args)
    model = in_numbers(bare_model(model), args)
    content = checkpoints.read(path, methods)
    settings = methods[content["method"]](
        **{**content["settings"], "threads": content["threads"], "checkpoint": str(path), **changes}
    )
    made = len(content["positions"])
    if settings.draws < made:
        raise ValueError(f"expected draws of {made} or more, as many as the checkpoint has, got {settings.draws}")
    sites = {s.name: list(s.shape) for s in Density(model, args).sites}
    if sites != content["sites"]:
        raise ValueError(f"expected the model of the checkpoint, with sites {content['sites']}, got {sites}")
    checkpoints.check_arguments(args, content["arguments"])
    return Run(settings, model, args, content["seed"], content["site"], saved=content).go()
