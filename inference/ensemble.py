"""Ensembles: one model fitted many times, all fits in one batched computation.

Each member is maximum likelihood for the model's parameters (`posterity.models.point`) and maximum a posteriori for its
latent sites (`posterity.models.bayesian`), from a start of its own. Together they predict with the mixture of their
predictions, equally weighted: a deep ensemble (Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474), which is
no posterior, but often as honest far from the data.

All members take their steps at once: with all rows at a time through the engine that samples posteriors too
(`posterity.inference.engine`), with batches of rows under ``vmap``, each member with batches of its own.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from tqdm.auto import tqdm

from posterity.inference.check import number, numbers
from posterity.inference.engine.density import PointDensity, trace
from posterity.inference.engine.replay import replay
from posterity.inference.engine.tiers import RECORDING_ERRORS, TIERS, prepare, quiet, torch_threads
from posterity.inference.posterior import Posterior
from posterity.inference.program import Model, Program, child_seeds, inspect, score, seeded
from posterity.inference.rows import ScaleObservations, count_rows, row_plates, take
from posterity.inference.schedule import cosine
from posterity.models.guides import INITS, initial

NORMS = 100  # steps over which the usual size of a gradient is taken


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Settings of an ensemble; `run` is called through `posterity.inference.infer`.

    - ``members``: how many fits. Member 0 starts from the parameters that the model brings, the others from ones drawn
      anew with the same mean and standard deviation in each tensor; latent sites start as ``init`` says ("prior",
      "uniform" or "median").
    - ``steps`` of Adam at ``learning_rate``, falling to ``final_rate`` times it along a cosine; the gradient of a
      member is clipped at ``clip`` times its running median.
    - ``batch_size``: rows per step, the terms of the observations scaled by N / batch_size; None: all rows.
    - ``holdout``: share of the rows kept out of training, the same for all members; the log score on them is taken
      every ``check_every`` steps, each member keeps its best, and training stops when none has had a better one for
      ``patience`` checks. ``keep``: only so many members, those with the best held-out score; None: all. Kept with all
      rows in training: those with the highest log joint.
    - ``restarts``: how often the learning rate starts again from the top, each period twice as long as the one before
      (Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983); all periods together make up ``steps``.
    - ``vary``: values (member, ...) at which parameters of these names are held, one for each member: settings that the
      model reads by ``pyro.param``, compared side by side (see `sweep`).
    - ``engine``: the tier, "auto" by default; ``threads``: None measures.
    """

    members: int = 5
    steps: int = 3000
    learning_rate: float = 0.01
    final_rate: float = 0.01
    clip: float = 10.0
    batch_size: int | None = None
    holdout: float = 0.0
    check_every: int = 50
    patience: int = 20
    keep: int | None = None
    restarts: int = 0
    vary: Mapping[str, Tensor] | None = None
    init: str = "prior"
    engine: str = "auto"
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        initial(self.init)
        numbers(
            self,
            counts=("members", "steps", "check_every", "patience", "batch_size", "keep", "threads"),
            positive=("learning_rate", "final_rate", "clip"),
        )
        if not 0 <= self.holdout < 1:
            raise ValueError(f"expected holdout in [0, 1), got {self.holdout}")
        if self.keep is not None and self.keep > self.members:
            raise ValueError(f"expected keep from 1 to {self.members}, got {self.keep}")
        number("restarts", self.restarts, low=0, integer=True)
        if 2 ** (self.restarts + 1) - 1 > self.steps:
            raise ValueError(f"expected restarts from 0 to about log2 of the steps, got {self.restarts}")
        for name, value in (self.vary or {}).items():
            if not isinstance(value, Tensor) or value.shape[:1] != (self.members,):
                raise ValueError(
                    f"expected a value of {name!r} for each of {self.members} members, got "
                    f"{tuple(value.shape) if isinstance(value, Tensor) else value!r}"
                )
        if self.engine not in (*TIERS, "auto"):
            raise ValueError(f"expected engine from {[*TIERS, 'auto']}, got {self.engine!r}")

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """Fit all members; an interrupt keeps what is fitted so far. ``guide`` is not used.

        Raises ``ValueError`` where the log joint is not finite at the start or in a step, or a batch is larger than
        the data.
        """
        begun = time.perf_counter()
        with pyro.get_param_store().scope():  # the caller's parameters are neither read nor changed
            return self._fitted(model, args, seed, site, begun)

    def _fitted(self, model: Model, args: tuple[Any, ...], seed: int, site: str | None, begun: float) -> Posterior:
        fit = _Fit(self, model, inspect(model, args, site), args, seed)
        fit.train()
        chosen, score = fit.chosen()
        values = fit.density.constrain(fit.best[chosen])
        return Posterior(
            model,
            fit.program,
            draws={name: value.unsqueeze(0) for name, value in values.items()},
            history={name: torch.stack(steps) for name, steps in fit.history.items()},
            attrs={
                "method": "Ensemble",
                "settings": repr(self),
                "seed": seed,
                "seconds": time.perf_counter() - begun,
                "tier": fit.tier,
                "interrupted": int(fit.interrupted),
                "best_score": float(score.max()),
            },
        )


class _Fit:
    """All members of one call."""

    def __init__(self, settings: Ensemble, model: Model, program: Program, args: tuple[Any, ...], seed: int) -> None:
        self.settings, self.model, self.program = settings, model, program
        self.history: dict[str, list[Tensor]] = {"loss": []}
        self.interrupted = False
        seeds = child_seeds(seed, 3)
        self.generator = torch.Generator().manual_seed(seeds[0])
        rows = count_rows(args)
        self.args, self.held_out = args, None
        if settings.holdout:
            count = max(1, round(settings.holdout * rows))
            if count >= rows:
                raise ValueError(f"expected rows left to train on, got {rows} rows and {count} held out")
            order = torch.randperm(rows, generator=self.generator)
            self.args, self.held_out = take(args, order[count:]), take(args, order[:count])
            rows -= count
        self.rows = rows
        if settings.batch_size is not None and settings.batch_size > rows:
            raise ValueError(f"expected a batch_size of at most {rows} rows, got {settings.batch_size}")
        self.density = PointDensity(model, self.args)
        self.free = self._free()
        self.q = self._start(seeds[1])
        self.best = self.q.clone()
        self.score = torch.full((settings.members,), -math.inf, dtype=torch.double)
        self.tier, self.threads = "eager", 1
        self.gradient = self._prepare()

    def _free(self) -> Tensor:
        """Which numbers are trained: 0 where `Ensemble.vary` holds them."""
        free = torch.ones(self.density.dim, dtype=self.density.dtype, device=self.density.device)
        for name in self.settings.vary or {}:
            if name not in self.density.parameters:
                raise ValueError(f"expected names of parameters to vary, of {self.density.parameters}, got {name!r}")
            site = next(s for s in self.density.sites if s.name == name)
            if self.settings.vary[name][0].numel() != site.size:  # type: ignore[index]
                raise ValueError(
                    f"expected {site.size} numbers of {name!r} for each member, got values of shape "
                    f"{tuple(self.settings.vary[name].shape)}"  # type: ignore[index]
                )
            free[site.start : site.start + site.size] = 0
        return free

    def _start(self, seed: int) -> Tensor:
        """Positions (member, dim)."""
        generator = torch.Generator().manual_seed(seed)
        nodes = trace(self.model, self.args, seed=0)
        positions = []
        for member, child in enumerate(child_seeds(seed, self.settings.members)):
            with seeded(child), pyro.get_param_store().scope(), torch.no_grad():
                drawn = pyro.poutine.trace(
                    pyro.infer.autoguide.initialization.InitMessenger(INITS[self.settings.init])(self.model)
                ).get_trace(*self.args)
            values = {
                s.name: drawn.nodes[s.name]["value"].detach()
                for s in self.density.sites
                if s.name not in self.density.parameters
            }
            for name in self.density.parameters:
                first = nodes[name]["value"].detach()
                values[name] = first if member == 0 else _anew(first, generator)
            for name, value in (self.settings.vary or {}).items():
                values[name] = value[member].to(values[name])
            positions.append(self.density.unconstrain(values))
        return torch.stack(positions)

    def _prepare(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        settings = self.settings
        if settings.batch_size is None or settings.batch_size == self.rows:
            with torch_threads(1):
                engine = prepare(
                    self.density, self.q, tier=settings.engine, calls=settings.steps, threads=settings.threads
                )
            self.tier, self.threads = engine.tier, engine.torch_threads
            return engine.gradient
        return self._in_batches(settings.batch_size)

    def _in_batches(self, size: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        density = PointDensity(self.model, self.args)
        plates = row_plates(self.model, self.args, self.program)
        tensors = [a for a in self.args if _by_rows(a, self.rows)]

        def log_joint(position: Tensor, *batch: Tensor) -> Tensor:
            parts = iter(batch)
            density.args = tuple(next(parts) if _by_rows(a, self.rows) else a for a in self.args)
            with ScaleObservations(self.program, plates, size, self.rows):
                return density(position)

        one = torch.func.vmap(torch.func.grad_and_value(log_joint), randomness="error")

        def rows_of_each() -> list[Tensor]:
            shape = (self.settings.members, size)
            index = torch.randint(self.rows, shape, generator=self.generator)
            return [a[index.to(a.device)] for a in tensors]

        call: Callable[..., Any] = one
        if self.settings.engine != "eager":
            try:
                with pyro.validation_enabled(False), torch.no_grad(), quiet():
                    example = (self.q, *rows_of_each())
                    call = replay(make_fx(one)(*example), *example)
                self.tier = "replay"
            except RECORDING_ERRORS as error:
                reason = str(error).splitlines()[0]
                warnings.warn(f"the model runs on the tier 'eager': {reason}", RuntimeWarning, stacklevel=2)

        def gradient(q: Tensor) -> tuple[Tensor, Tensor]:
            with pyro.validation_enabled(False), torch.no_grad():
                grad, value = call(q, *rows_of_each())
            return value, grad

        return gradient

    def train(self) -> None:
        settings, q = self.settings, self.q
        first, second = torch.zeros_like(q), torch.zeros_like(q)
        norms: list[Tensor] = []
        stale = 0
        try:
            with (
                torch_threads(self.threads),
                tqdm(total=settings.steps, desc="Ensemble", disable=not settings.progress, leave=False) as bar,
            ):
                for step in range(settings.steps):
                    value, grad = self.gradient(q)
                    if not bool(torch.isfinite(value).all()):
                        raise ValueError(
                            f"expected a finite log joint, got {value[~torch.isfinite(value)][0].item()} in step "
                            f"{step + 1}: try a learning_rate below {settings.learning_rate:g}"
                        )
                    self.history["loss"].append(-value)
                    grad = self._clipped(torch.nan_to_num(grad) * self.free, norms)
                    first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
                    size = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                    q = q + self._rate(step) * size
                    bar.update()
                    if (step + 1) % settings.check_every and step + 1 < settings.steps:
                        continue
                    bar.set_postfix_str(f"loss {-float(value.mean()):.1f}", refresh=False)
                    if self.held_out is None:
                        continue
                    score = self._held_out(q)
                    self.history.setdefault("held_out", []).append(score)
                    better = score > self.score
                    self.best, self.score = torch.where(better[:, None], q, self.best), torch.maximum(score, self.score)
                    stale = 0 if bool(better.any()) else stale + 1
                    if stale >= settings.patience:
                        break
        except KeyboardInterrupt:
            self.interrupted = True
        if self.held_out is None:
            self.best = q

    def chosen(self) -> tuple[Tensor, Tensor]:
        """Which members are kept, in their order, and their scores."""
        score = self.score
        if self.held_out is None:
            with torch.no_grad(), pyro.validation_enabled(False):
                score = torch.stack([self.density(q) for q in self.best]).double()
        keep = self.settings.keep or self.settings.members
        index = score.argsort(descending=True)[:keep].sort().values
        return index, score[index]

    def _held_out(self, q: Tensor) -> Tensor:
        """Mean log score of the held-out rows, in nats per row, of each member."""
        args, site = self.held_out or (), self.program.site
        found = score(self.model, args, self.density.constrain(q), site, others=self.program.observed)
        return found.left(found.log_prob).double().mean(1)

    def _clipped(self, grad: Tensor, norms: list[Tensor]) -> Tensor:
        norm = grad.norm(dim=1, keepdim=True)
        norms.append(norm)
        del norms[:-NORMS]
        if len(norms) < 20:
            return grad
        largest = self.settings.clip * torch.stack(norms).median(0).values
        return grad * (largest / norm.clamp_min(1e-30)).clamp(max=1)

    def _rate(self, step: int) -> float:
        settings = self.settings
        return settings.learning_rate * cosine(step, settings.steps, settings.final_rate, settings.restarts)


def _by_rows(argument: Any, rows: int) -> bool:
    return isinstance(argument, Tensor) and argument.ndim > 0 and len(argument) == rows


def _anew(value: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers of the same mean and standard deviation; one number by itself stays."""
    if value.numel() < 2:
        return value.clone()
    noise = torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
    return value.mean() + value.std() * noise
