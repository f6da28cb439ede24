"""The members of an ensemble in one batched computation: starts, convergence, members far behind the best."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import Density, PointDensity, trace
from posterity.inference.engine.evaluation import value_and_gradient
from posterity.inference.engine.threads import torch_threads
from posterity.inference.engine.tiers import prepare, tier_for_steps
from posterity.inference.members_batches import BatchGradient
from posterity.inference.members_descent import MembersDescent
from posterity.inference.program.likelihood import score_draws
from posterity.inference.program.minibatch import count_rows
from posterity.inference.program.nested import tensors_in, with_tensors
from posterity.inference.program.site_value import scored_elements
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model, default_dtype
from posterity.inference.training.holdout import check_batch_size, hold_out
from posterity.inference.training.natural_gradient import with_natural_gradient
from posterity.inference.training.noise import DataNoise
from posterity.inference.training.probe import (
    NO_MAXIMUM,
    PER_ROW,
    behind,
    lost_tolerance,
    probe_steps,
    still_gaining,
    tolerance,
)
from posterity.inference.training.units import parameter_unit, prior_units
from posterity.models.guides import INITS
from posterity.random import child_seeds, seeded

TRIES = 100  # draws of the start of a member
COPIES = 8  # of the data, with noise, on which members without held-out rows are scored


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
        if settings.holdout or settings.gradient == "natural" or settings.noise:
            program.one_site()
        self.args, self.held_out = hold_out(args, settings.holdout, self.generator)
        self.rows = count_rows(self.args)
        check_batch_size(settings.batch_size, self.rows)
        self.density = PointDensity(model, self.args)
        if settings.gradient == "natural" and program.latents:
            raise ValueError(
                "expected gradient to be 'plain' for a model with latent sites, whose fit would not be a mode of the "
                f"posterior, got 'natural' with {list(program.latents)[:3]}"
            )
        self.noise = self._noise()
        self.scored = self._scored()
        self.free = self._free()
        self.units = self._units()
        self.start = self._start(self.seeds[1])
        self.best, self.score = self.start, torch.full((settings.members,), -math.inf, dtype=torch.double)
        self.tier, self.threads = "eager", 1
        self.gradient = self._prepare()

    def _noise(self) -> DataNoise | None:
        if self.settings.noise in (None, 0, (0, 0), [0, 0]):
            return None
        node = trace(self.model, self.args, seed=0)[self.program.one_site()]
        if any(isinstance(value, dict) for value in self.args):
            raise ValueError("expected noise=None for data in a dictionary, got noise: give the data as x and y")
        return DataNoise(
            self.settings.noise, tuple(tensors_in(self.args)), self.rows, node["fn"].support, scored_elements(node)
        )

    def _scored(self) -> list[Density]:
        """The log joints whose mean is the score of a member: that of the data, or those of copies with noise."""
        if self.noise is None or self.held_out is not None:
            return [self.density]
        copies, generator = list[Density](), torch.Generator().manual_seed(self.seeds[0])
        for _ in range(COPIES):
            density = copy.copy(self.density)
            density.args = with_tensors(self.args, self.noise(tensors_in(self.args), (), generator))
            copies.append(density)
        return copies

    def _free(self) -> Tensor:
        """1 for elements that are trained, 0 for elements that `Ensemble.vary` fixes; shape (dim,)."""
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
        """The unit of every element (dim,); 0 for plain Adam steps."""
        units, latent = self.free.clone(), prior_units(self.model, self.args)
        nodes = trace(self.model, self.args, seed=0)
        for site in self.density.sites:
            is_parameter = site.name in self.density.parameters
            unit = parameter_unit(nodes[site.name]["value"].detach()) if is_parameter else latent[site.name]
            units[site.start : site.start + site.size] = unit
        return units

    def _start(self, seed: int, *, fresh: bool = False) -> Tensor:
        """Initial positions (member, dim); member 0 has the parameters of the model unless ``fresh``.

        Each member draws its latent sites until log joint and gradient are finite, `TRIES` times at most.
        """
        generator = torch.Generator().manual_seed(seed)
        nodes = trace(self.model, self.args, seed=0)
        parameters: list[dict[str, Tensor]] = []
        for member in range(self.settings.members):
            values = {}
            for name in self.density.parameters:
                first = nodes[name]["value"].detach()
                values[name] = first if member == 0 and not fresh else _redrawn(first, generator)
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
        """Whether log joint and gradient are finite (member,); with batches the log joint alone, to save memory."""
        if self.settings.batch_size is not None:
            return torch.isfinite(self._log_joint(q))
        value, grad = value_and_gradient(self.density, q)
        return torch.isfinite(value) & torch.isfinite(grad).all(1)

    def _one_start(self, seed: int, parameters: Mapping[str, Tensor]) -> Tensor:
        """The position (dim,) of one draw of the latent sites and these ``parameters``."""
        precision = default_dtype(self.density.promoted)
        unchecked = pyro.validation_enabled(False)  # of draws outside of the support another is taken
        with seeded(seed), pyro.get_param_store().scope(), torch.no_grad(), precision, unchecked:
            drawn = pyro.poutine.trace(
                pyro.infer.autoguide.initialization.InitMessenger(INITS[self.settings.init])(self.model)
            ).get_trace(*self.args)
        latents = {s.name for s in self.density.sites} - set(self.density.parameters)
        return self.density.unconstrain(
            {name: drawn.nodes[name]["value"].detach() for name in latents} | dict(parameters)
        )

    def _prepare(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The function from positions (member, dim) to log joints (member,) and gradients (member, dim)."""
        settings, model, density = self.settings, self.model, self.density
        if settings.gradient == "natural":
            site = self.program.one_site()
            model = with_natural_gradient(self.model, site, trace(self.model, self.args, seed=0)[site])
            density = PointDensity(model, self.args)
        size = settings.batch_size or self.rows
        if size == self.rows and self.noise is None:
            with torch_threads(1):
                tier = tier_for_steps(settings.engine, settings.members, settings.steps)
                engine = prepare(density, self.start, tier=tier, calls=settings.steps, threads=settings.threads)
            self.tier, self.threads = engine.tier, engine.torch_threads
            return engine.gradient
        batches = BatchGradient(
            model, self.program, self.args, self.rows, size, self.noise, self.start, settings.engine, self.generator
        )
        self.tier = batches.tier
        return batches

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
        self.gained = torch.full_like(self.score, torch.inf)  # until the probe has measured it
        self.unsettled = torch.zeros(settings.members, dtype=torch.bool)
        descent = MembersDescent(self, start)
        try:
            stopped = descent.take(settings.steps, settings.restarts, history)
        finally:
            if self.held_out is None:
                self.best, self.score = descent.q, self._log_joint(descent.q)
            else:
                never = ~torch.isfinite(self.score)
                self.best = torch.where(never[:, None], descent.q, self.best)
        if stopped:
            self.gained = torch.zeros_like(self.score)
            return
        self._probe(descent)

    def _probe(self, descent: MembersDescent) -> None:
        """Continue the descent at the full learning rate; the members stay as they were at the end of the schedule."""
        best, scores = self.best, self.score
        try:
            descent.take(probe_steps(self.settings.steps), 0, {"loss": []})
            after = self._log_joint(descent.q) if self.held_out is None else self.score
            self.gained = torch.nan_to_num(after - scores, posinf=0.0).clamp_min(0)
            if self.held_out is None and self.program.latents:
                lost = descent.last_failure.cpu() > 0.9 * self.settings.steps
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
        now, merged = (self.best, self.score, self.gained, self.unsettled), [part.clone() for part in before]
        for part, other in zip(merged, now, strict=True):
            part[places] = other[order]
        self.replaced = {name: (places, torch.stack(steps)[:, order]) for name, steps in history.items()}
        self.best, self.score, self.gained, self.unsettled = merged

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
        settings, far, sentences = self.settings, self.far(), []
        if self.interrupted:
            sentences.append(f"interrupted after {len(self.history['loss'])} of {settings.steps} steps")
        if bool(far.any()):
            again = "after a second fit from other starts " if self.redone else ""
            fate = "kept (behind='leave_out' leaves them out)" if settings.behind == "keep" else "left out"
            sentences.append(
                f"{int(far.sum())} of {settings.members} members (numbers {far.nonzero().flatten().tolist()}) are "
                f"{again}more than half a nat per row behind the best and are {fate}: raise steps, or change init"
            )
        if self.interrupted:
            return sentences
        if self.held_out is not None and not bool(torch.isfinite(self.score).all()):
            sentences.append(
                f"the held-out score of {int((~torch.isfinite(self.score)).sum())} of {settings.members} members was "
                "never finite, and they are as they were at the end: a held-out row may be outside of the support of "
                "its likelihood, so set holdout=0"
            )
        return sentences + self._convergence_problems(torch.ones_like(far) if settings.behind == "keep" else ~far)

    def _convergence_problems(self, judged: Tensor) -> list[str]:
        """The sentences for members (of those ``judged``) whose probe gained or lost too much."""
        sentences, members = [], self.settings.members
        slow = (self.gained > self._limit()) & judged
        if bool(slow.any()):
            nats = f"nats of log joint density ({self.rows} rows)"
            sentences.append(
                still_gaining(
                    f"{int(slow.sum())} of {members} members have not converged and",
                    float(self.gained[slow].max()),
                    nats if self.held_out is None else "nats per row of held-out data",
                    probe_steps(self.settings.steps),
                    self._cure(),
                )
            )
        unsettled = self.unsettled & judged & ~slow
        if bool(unsettled.any()):
            sentences.append(f"{int(unsettled.sum())} of {members} members have not settled: {NO_MAXIMUM}")
        return sentences

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
        """The learning curves (step, member) of the ``chosen`` members; shorter curves end with nan."""
        curves = {}
        for name, steps in self.history.items():
            curve = torch.stack(steps)
            if name in self.replaced:
                places, other = self.replaced[name]
                longer = curve.new_full((max(len(curve), len(other)), curve.shape[1]), torch.nan)
                longer[: len(curve)] = curve
                longer[:, places] = torch.nan
                longer[: len(other), places] = other
                curve = longer
            curves[name] = curve[:, chosen]
        return curves

    def _log_joint(self, q: Tensor) -> Tensor:
        """Log joint density of all rows (member,), with noise its mean over the copies of the data."""
        with torch.no_grad(), pyro.validation_enabled(False):
            return torch.stack([torch.stack([density(one) for density in self.scored]).mean() for one in q]).double()

    def held_out_score(self, q: Tensor) -> Tensor:
        """Mean log score of the held-out rows, in nats per row, of each member."""
        args, site = self.held_out or (), self.program.one_site()
        scored = score_draws(self.model, args, self.density.constrain(q), site, others=self.program.observed)
        return scored.select_scored(scored.log_prob).double().mean(1)


def _redrawn(value: Tensor, generator: torch.Generator) -> Tensor:
    """Normal draws with the mean and standard deviation of ``value``; a scalar is copied."""
    if value.numel() < 2:
        return value.clone()
    noise = torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
    return value.mean() + value.std() * noise
