"""The members of an ensemble in one batched computation: starts, optimisation steps, members far behind the best."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from posterity.inference.engine.density import PointDensity, trace
from posterity.inference.engine.evaluation import value_and_gradient
from posterity.inference.engine.recording import RECORDING_ERRORS, quiet, record, replay
from posterity.inference.engine.threads import torch_threads
from posterity.inference.engine.tiers import prepare
from posterity.inference.program.likelihood import score
from posterity.inference.program.minibatch import ScaleObservations, count_rows, row_terms
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model, default_dtype
from posterity.inference.training.clipping import RelativeClip
from posterity.inference.training.holdout import Patience, check_batch_size, hold_out
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.probe import (
    NO_MAXIMUM,
    PER_ROW,
    behind,
    lost_tolerance,
    probe_steps,
    still_gaining,
    tolerance,
)
from posterity.inference.training.schedule import cosine
from posterity.inference.training.units import parameter_unit, prior_units
from posterity.models.guides import INITS
from posterity.random import child_seeds, seeded

TRIES = 100  # draws of the start of a member
FAILURES = 100  # steps of one member to a log joint that is not finite; each is undone, and more end the fit


class MembersFit:
    """The optimisation of all members of one `infer` call; ``settings`` is an `Ensemble`."""

    def __init__(self, settings: Any, model: Model, program: Program, args: tuple[Any, ...], seed: int) -> None:
        self.settings, self.model, self.program = settings, model, program
        self.history: dict[str, list[Tensor]] = {"loss": []}
        self.interrupted = False
        self.seeds = child_seeds(seed, 3)
        self.redone = 0
        self.replaced: dict[str, tuple[Tensor, Tensor]] = {}  # curves of members that a second fit replaced
        self.gained = torch.zeros(settings.members, dtype=torch.double)
        self.unsettled = torch.zeros(settings.members, dtype=torch.bool)
        self.generator = torch.Generator().manual_seed(self.seeds[0])
        self.args, self.held_out = hold_out(args, settings.holdout, self.generator)
        self.rows = count_rows(self.args)
        check_batch_size(settings.batch_size, self.rows)
        self.density = PointDensity(model, self.args)
        self.free = self._free()
        self.units = self._units()
        self.start = self._start(self.seeds[1])
        self.best, self.score = self.start, torch.full((settings.members,), -math.inf, dtype=torch.double)
        self.tier, self.threads = "eager", 1
        self.gradient = self._prepare()

    def _free(self) -> Tensor:
        """1 for numbers that are trained, 0 for numbers that `Ensemble.vary` fixes; shape (dim,)."""
        free = torch.ones(self.density.dim, dtype=self.density.dtype, device=self.density.device)
        for name in self.settings.vary or {}:
            if name not in self.density.parameters:
                raise ValueError(f"expected vary with names of parameters {self.density.parameters}, got {name!r}")
            site = next(s for s in self.density.sites if s.name == name)
            if self.settings.vary[name][0].numel() != site.size:  # type: ignore[index]
                raise ValueError(
                    f"expected {site.size} numbers of {name!r} for each member, got values of shape "
                    f"{tuple(self.settings.vary[name].shape)}"  # type: ignore[index]
                )
            free[site.start : site.start + site.size] = 0
        return free

    def _units(self) -> Tensor:
        """The unit of every number (dim,); 0 means steps without a unit."""
        units, latent = self.free.clone(), prior_units(self.model, self.args)
        nodes = trace(self.model, self.args, seed=0)
        for site in self.density.sites:
            is_parameter = site.name in self.density.parameters
            unit = parameter_unit(nodes[site.name]["value"].detach()) if is_parameter else latent[site.name]
            units[site.start : site.start + site.size] = unit
        return units

    def _start(self, seed: int, *, fresh: bool = False) -> Tensor:
        """Positions (member, dim); ``fresh`` ones do not begin with the parameters that the model brings.

        Each member draws its latent sites until log joint and gradient are finite, `TRIES` times at most.
        """
        generator = torch.Generator().manual_seed(seed)
        nodes = trace(self.model, self.args, seed=0)
        parameters: list[dict[str, Tensor]] = []
        for member in range(self.settings.members):
            values = {}
            for name in self.density.parameters:
                first = nodes[name]["value"].detach()
                values[name] = first if member == 0 and not fresh else _anew(first, generator)
            for name, value in (self.settings.vary or {}).items():
                values[name] = value[member].to(values[name])
            parameters.append(values)
        seeds = child_seeds(seed, self.settings.members)
        q = torch.stack([self._one_start(s, v) for s, v in zip(seeds, parameters, strict=True)])
        for attempt in range(1, TRIES if self.program.latents else 1):
            lost = (~self._finite(q)).nonzero().flatten().tolist()
            if not lost:
                break
            for member in lost:
                q[member] = self._one_start(seeds[member] + attempt, parameters[member])
        return q

    def _finite(self, q: Tensor) -> Tensor:
        """Where log joint and gradient are finite (member,); with batches the log joint alone, for want of memory."""
        if self.settings.batch_size is not None:
            return torch.isfinite(self._log_joint(q))
        value, grad = value_and_gradient(self.density, q)
        return torch.isfinite(value) & torch.isfinite(grad).all(1)

    def _one_start(self, seed: int, parameters: Mapping[str, Tensor]) -> Tensor:
        """One draw (dim,) of the latent sites beside these ``parameters``."""
        own = default_dtype(self.density.promoted)
        with seeded(seed), pyro.get_param_store().scope(), torch.no_grad(), own:
            drawn = pyro.poutine.trace(
                pyro.infer.autoguide.initialization.InitMessenger(INITS[self.settings.init])(self.model)
            ).get_trace(*self.args)
        latents = {s.name for s in self.density.sites} - set(self.density.parameters)
        return self.density.unconstrain(
            {name: drawn.nodes[name]["value"].detach() for name in latents} | dict(parameters)
        )

    def _prepare(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        settings = self.settings
        if settings.batch_size is None or settings.batch_size == self.rows:
            with torch_threads(1):
                engine = prepare(
                    self.density, self.start, tier=settings.engine, calls=settings.steps, threads=settings.threads
                )
            self.tier, self.threads = engine.tier, engine.torch_threads
            return engine.gradient
        return self._in_batches(settings.batch_size)

    def _in_batches(self, size: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        density = PointDensity(self.model, self.args)
        plates, sites = row_terms(self.model, self.args, self.program)
        tensors = [a for a in self.args if _by_rows(a, self.rows)]

        def log_joint(position: Tensor, *batch: Tensor) -> Tensor:
            parts = iter(batch)
            density.args = tuple(next(parts) if _by_rows(a, self.rows) else a for a in self.args)
            with ScaleObservations(self.program, plates, size, self.rows, sites):
                return density(position)

        one = torch.func.vmap(torch.func.grad_and_value(log_joint), randomness="error")

        def rows_of_each() -> list[Tensor]:
            shape = (self.settings.members, size)
            index = torch.randint(self.rows, shape, generator=self.generator)
            return [a[index.to(a.device)] for a in tensors]

        call: Callable[..., Any] = one
        if self.settings.engine != "eager":
            try:
                with quiet():
                    example = (self.start, *rows_of_each())
                    call = replay(record(one, *example), *example)
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
        """Fit every member, test convergence, and fit members far behind the best again from other starts."""
        try:
            with torch_threads(self.threads):
                self._descend(self.start, self.history)
                if self.settings.behind == "redo" and bool(self.far().any()):
                    self._redo()
        except KeyboardInterrupt:
            self.interrupted = True

    def _descend(self, start: Tensor, history: dict[str, list[Tensor]]) -> None:
        """The whole schedule from ``start``, then the probe. Sets ``best``, ``score`` and the gain of the probe."""
        settings = self.settings
        self.best, self.score = start.clone(), torch.full((settings.members,), -math.inf, dtype=torch.double)
        self.gained = torch.full_like(self.score, torch.inf)  # until the probe has asked
        self.unsettled = torch.zeros(settings.members, dtype=torch.bool)
        descent = _Descent(self, start)
        try:
            stopped = descent.go(settings.steps, settings.restarts, history)
        finally:
            if self.held_out is None:
                self.best, self.score = descent.q, self._log_joint(descent.q)
            else:
                never = ~torch.isfinite(self.score)
                self.best = torch.where(never[:, None], descent.q, self.best)
        if stopped:
            self.gained = torch.zeros_like(self.score)
            return
        # The probe does not change the members: they stay as they were at the end of the schedule.
        best, scores = self.best, self.score
        try:
            descent.go(probe_steps(settings.steps), 0, {"loss": []})
            after = self._log_joint(descent.q) if self.held_out is None else self.score
            self.gained = torch.nan_to_num(after - scores, posinf=0.0).clamp_min(0)
            if self.held_out is None and self.program.latents:
                lost = descent.last_failure.cpu() > 0.9 * settings.steps
                self.unsettled = lost | ~(scores - after <= lost_tolerance(self._limit()))
        finally:
            self.best, self.score = best, scores

    def _redo(self) -> None:
        """Fit all members from other starts; the best of the new members replace the members far behind."""
        before = self.best, self.score, self.gained, self.unsettled
        places = self.far().nonzero().flatten()
        self.redone = len(places)
        again, history = self._start(self.seeds[2], fresh=True), dict[str, list[Tensor]](loss=[])
        try:
            self._descend(torch.where(self._finite(again)[:, None], again, self.start), history)
        except KeyboardInterrupt:
            self.best, self.score, self.gained, self.unsettled = before
            raise
        order = self.score.argsort(descending=True)[: len(places)]
        better = self.score[order] > before[1][places]
        places, order = places[better], order[better]
        now, kept = (self.best, self.score, self.gained, self.unsettled), [part.clone() for part in before]
        for part, other in zip(kept, now, strict=True):
            part[places] = other[order]
        self.replaced = {name: (places, torch.stack(steps)[:, order]) for name, steps in history.items()}
        self.best, self.score, self.gained, self.unsettled = kept

    def far(self) -> Tensor:
        """Which members are far behind the best (member,).

        No member is, if members have different settings (``vary``), or if the best member has not converged.
        """
        best = self.score.argmax()
        if self.settings.vary or not bool(torch.isfinite(self.score[best])) or self.gained[best] > self._limit():
            return torch.zeros(self.settings.members, dtype=torch.bool)
        return behind(self.score if self.held_out is None else self.score * self.rows, self.rows)

    def problems(self) -> list[str]:
        """One sentence for each reason to doubt the members."""
        settings, far, found = self.settings, self.far(), []
        if self.interrupted:
            found.append(f"interrupted after {len(self.history['loss'])} of {settings.steps} steps")
        if bool(far.any()):
            again = "after a second fit from other starts " if self.redone else ""
            fate = "kept (behind='leave_out' leaves them out)" if settings.behind == "keep" else "left out"
            found.append(
                f"{int(far.sum())} of {settings.members} members (numbers {far.nonzero().flatten().tolist()}) are "
                f"{again}more than half a nat per row behind the best and are {fate}: raise steps, or change init"
            )
        if self.interrupted:
            return found
        held_out = self.held_out is not None
        if held_out and not bool(torch.isfinite(self.score).all()):
            found.append(
                f"the held-out score of {int((~torch.isfinite(self.score)).sum())} of {settings.members} members was "
                "never finite, and they are as they were at the end: a held-out row may be outside of the support of "
                "its likelihood, so set holdout=0"
            )
        slow = (self.gained > self._limit()) & (~far if settings.behind != "keep" else True)
        if bool(slow.any()):
            found.append(
                still_gaining(
                    f"{int(slow.sum())} of {settings.members} members have not converged and",
                    float(self.gained[slow].max()),
                    "nats per row of held-out data" if held_out else f"nats of log joint density ({self.rows} rows)",
                    probe_steps(settings.steps),
                    self._cure(),
                )
            )
        lost = self.unsettled & (~far if settings.behind != "keep" else True) & ~slow
        if bool(lost.any()):
            found.append(f"{int(lost.sum())} of {settings.members} members have not settled: {NO_MAXIMUM}")
        return found

    def _limit(self) -> float:
        """Largest gain in the probe of a converged member: nats per row of held-out rows, or nats of the log joint."""
        return PER_ROW if self.held_out is not None else tolerance(self.rows, self.density.dim)

    def _cure(self) -> str:
        cure = f"raise steps above {self.settings.steps}"
        if self.held_out is None and self.density.parameters:
            cure += ", or set holdout to stop training early"
        return cure

    def chosen(self) -> tuple[Tensor, Tensor]:
        """Indices of the members that are kept, in ascending order, and their scores."""
        order = self.score.argsort(descending=True)[: self.settings.keep or self.settings.members]
        if self.settings.behind != "keep":
            order = order[~self.far()[order]]
        index = order.sort().values
        return index, self.score[index]

    def curves(self, chosen: Tensor) -> dict[str, Tensor]:
        """The learning curves (step, member) of the ``chosen`` members, nan after the end of the shorter ones."""
        found = {}
        for name, steps in self.history.items():
            curve = torch.stack(steps)
            if name in self.replaced:
                places, other = self.replaced[name]
                longer = curve.new_full((max(len(curve), len(other)), curve.shape[1]), torch.nan)
                longer[: len(curve)] = curve
                longer[:, places] = torch.nan
                longer[: len(other), places] = other
                curve = longer
            found[name] = curve[:, chosen]
        return found

    def _log_joint(self, q: Tensor) -> Tensor:
        """Log joint density of all rows (member,)."""
        with torch.no_grad(), pyro.validation_enabled(False):
            return torch.stack([self.density(one) for one in q]).double()

    def held_out_score(self, q: Tensor) -> Tensor:
        """Mean log score of the held-out rows, in nats per row, of each member."""
        args, site = self.held_out or (), self.program.site
        found = score(self.model, args, self.density.constrain(q), site, others=self.program.observed)
        return found.left(found.log_prob).double().mean(1)


class _Descent:
    """Optimisation steps of all members, at positions ``q`` (member, dim)."""

    def __init__(self, fit: MembersFit, start: Tensor) -> None:
        self.fit, self.q, self.last = fit, start, start
        settings = fit.settings
        noisy = settings.batch_size is not None and settings.batch_size < fit.rows
        self.optimiser = AdaptiveAdam(fit.units.expand_as(start).clone(), noisy=noisy)
        self.value = start.new_full((len(start),), -math.inf)
        self.failures = torch.zeros(len(start), dtype=torch.long, device=start.device)
        self.last_failure = torch.zeros_like(self.failures)  # step after which the log joint was not finite
        self.clip = RelativeClip(settings.clip)

    def go(self, steps: int, restarts: int, history: dict[str, list[Tensor]]) -> bool:
        """Take ``steps``; returns whether early stopping on held-out rows ended them."""
        fit, settings = self.fit, self.fit.settings
        patience = Patience(settings.patience)
        with tqdm(total=steps, desc="Ensemble", disable=not settings.progress, leave=False) as bar:
            for step in range(steps):
                self._step(cosine(step, steps, settings.final_rate, restarts), history["loss"])
                bar.update()
                if (step + 1) % settings.check_every and step + 1 < steps:
                    continue
                bar.set_postfix_str(f"loss {-float(self.value.mean()):.1f}", refresh=False)
                if fit.held_out is None:
                    continue
                found = fit.held_out_score(self.q)
                history.setdefault("held_out", []).append(found)
                better = found > fit.score
                fit.best = torch.where(better[:, None], self.q, fit.best)
                fit.score = torch.where(better, found, fit.score)
                if patience.exhausted(improved=bool(better.any()), scored=bool(torch.isfinite(fit.score).any())):
                    return True
        return False

    def _step(self, share: float, losses: list[Tensor]) -> None:
        value, grad = self.fit.gradient(self.q)
        bad = ~torch.isfinite(value)
        if bool(bad.any()):
            self._back_off(value, bad)
            value, grad = torch.where(bad, self.value, value), torch.where(bad[:, None], 0.0, grad)
        self.last, self.value = self.q, value
        losses.append(-value)
        grad = self.clip(torch.nan_to_num(grad) * self.fit.free)
        self.q = self.q + self.optimiser.step(-grad, self.fit.settings.learning_rate, share) * self.fit.free

    def _back_off(self, value: Tensor, bad: Tensor) -> None:
        """Undo the last step of members whose log joint is not finite, and make their next steps smaller."""
        self.failures += bad
        self.last_failure = torch.where(bad, self.optimiser.steps, self.last_failure)
        if self.optimiser.steps == 0 or bool((self.failures > FAILURES).any()):
            raise ValueError(
                f"expected a finite log joint, got {value[bad][0].item()} in step {self.optimiser.steps + 1}: try a "
                f"learning_rate below {self.fit.settings.learning_rate:g}"
            )
        self.q = torch.where(bad[:, None], self.last, self.q)
        self.optimiser.back_off(bad)


def _by_rows(argument: Any, rows: int) -> bool:
    return isinstance(argument, Tensor) and argument.ndim > 0 and len(argument) == rows


def _anew(value: Tensor, generator: torch.Generator) -> Tensor:
    """New normal numbers with the mean and standard deviation of ``value``; a single number is kept."""
    if value.numel() < 2:
        return value.clone()
    noise = torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
    return value.mean() + value.std() * noise
