"""The fit of a guide: optimisation steps, early stopping on held-out rows, the convergence probe, and draws."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, autoguide
from torch import Tensor

from posterity.inference.engine.recording import quiet
from posterity.inference.engine.threads import torch_threads
from posterity.inference.guide_bound import GuideBound, prepare_bound
from posterity.inference.program.likelihood import score_draws
from posterity.inference.program.minibatch import ScaleObservations, count_rows, row_terms, take_rows
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model
from posterity.inference.training.clipping import RelativeClip
from posterity.inference.training.guide_widths import guide_unit, is_point, widths_as_units, with_spread
from posterity.inference.training.holdout import Patience, check_batch_size, hold_out
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.probe import (
    NO_MAXIMUM,
    PER_ROW,
    lost_tolerance,
    not_decided,
    not_settled,
    probe_steps,
    still_gaining,
    tolerance,
)
from posterity.inference.training.schedule import cosine
from posterity.inference.training.units import parameter_unit, prior_units
from posterity.models.guides import empty_guide
from posterity.progress import progress_bar
from posterity.random import seeded

Guide = Callable[..., Any]
HELD_OUT_DRAWS = 32
PROBE_DRAWS, MOST_PROBE_DRAWS = 16, 512  # samples of the bound before and after the probe
PROBE_WORK = 4  # evaluations of the data in training for each one that decides an undecided probe
SE_OF_MEDIAN = 1.2533 * 1.4826  # of a normal, over the median absolute deviation
SIGMAS = 3  # standard errors by which a gain has to exceed the tolerance
ASK_EVERY = 50  # steps by the engine between two checks by Pyro
BACK_OFFS = 20  # largest number of consecutive steps that are undone because the bound is not finite


class GuideFit:
    """One optimisation of a guide: its data, parameters and learning curve; ``settings`` is an `SVI`."""

    def __init__(self, settings: Any, model: Model, program: Program, args: tuple[Any, ...]) -> None:
        self.settings, self.model, self.program = settings, model, program
        self.guide: Guide = empty_guide
        self.by_name = False  # whether the guide was made by its name
        self.bound: GuideBound | None = None  # the bound by the engine; None for Pyro's
        self.engine, self.engine_reason = "pyro", ""
        self.history: dict[str, list[float]] = {"loss": []}
        self.interrupted = False
        self.gained, self.noise, self.probe_draws = 0.0, 0.0, 0  # by the probe: gain, standard error, samples
        self.refused = ""  # the last reason of Pyro's checks, in parentheses
        self.undone: list[int] = []  # steps after which the bound was not finite
        if settings.holdout:
            program.one_site()
        self.args, self.held_out = hold_out(args, settings.holdout)
        self.rows = count_rows(self.args)
        check_batch_size(settings.batch_size, self.rows)
        whole = settings.batch_size is None or settings.batch_size == self.rows
        self.row_plates, self.row_sites = ((), ()) if whole else row_terms(model, self.args, program)
        self.elbo = Trace_ELBO(num_particles=settings.particles).differentiable_loss
        self.best_score, self.best = -math.inf, list[Tensor]()  # of the held-out rows, and the parameters then

    def some_rows(self) -> tuple[tuple[Any, ...], AbstractContextManager[Any]]:
        """The data of one step, and a context that scales their terms to those of all rows."""
        batch = self.settings.batch_size
        if batch is None or batch == self.rows:
            return self.args, nullcontext()
        scaled = ScaleObservations(self.program, self.row_plates, batch, self.rows, self.row_sites)
        return take_rows(self.args, torch.randperm(self.rows)[:batch]), scaled

    def has_finite_bound(self) -> bool:
        """Whether the bound of the present guide is finite."""
        with torch.no_grad(), pyro.validation_enabled(False), quiet():
            return bool(torch.isfinite(self.elbo(self.model, self.guide, *self.args)))

    def train(self) -> None:
        """Fit, then test convergence. An interrupt keeps the fit so far."""
        self.parameters, units = self._parameters()
        self.num_elements = sum(value.numel() for value in self.parameters)
        self.optimiser = AdaptiveAdam(
            torch.cat([unit.reshape(-1) for unit in units]),
            noisy=not is_point(self.guide) or self.settings.batch_size is not None,
        )
        self.good, self.clip = self._copy(), RelativeClip(self.settings.clip)
        self.accepted = self.good
        try:
            steps = self.settings.steps
            self.bound, self.engine_reason = prepare_bound(self, steps + probe_steps(steps))
            if self.bound is not None:
                self.engine = self.bound.engine.kind
            with torch_threads(1) if self.bound is not None else nullcontext():
                stopped = self._descend(steps, self.history)
                if not stopped:
                    self._probe()
        except KeyboardInterrupt:
            self.interrupted = True
        if self.best_score > -math.inf:  # held-out rows were scored at least once
            self._restore(self.best)
        self.guide = with_spread(self.guide, self.args)

    def _probe(self) -> None:
        """Continue the fit at the full learning rate, measure the gain, and restore the fit."""
        end, best_score, best = self._copy(), self.best_score, self.best
        try:
            self._descend(probe_steps(self.settings.steps), {"loss": []})
            if self.held_out is not None:
                self.gained = max(self.best_score - best_score, 0.0)
            else:
                self._measure_gain(end, self._copy())
        finally:
            self._restore(end)
            self.best_score, self.best = best_score, best

    def _measure_gain(self, before: list[Tensor], after: list[Tensor]) -> None:
        """Estimate the gain of the bound in the probe; samples are added until it is decided, within a limit."""
        passes = self.settings.steps * (self.settings.batch_size or self.rows) / self.rows
        most = max(PROBE_DRAWS, min(MOST_PROBE_DRAWS, int(passes / PROBE_WORK)))
        limit, change = tolerance(self.rows, self.num_elements), torch.empty(0).double()
        count = PROBE_DRAWS if self.program.latents else 1
        while True:
            losses = []
            for parameters in (before, after):
                self._restore(parameters)
                losses.append(self._losses_of_all_rows(count - len(change), seed=count))
            change = torch.cat([change, losses[0] - losses[1]])
            self.probe_draws = len(change)
            if not self.program.latents:
                self.gained = float(change)
                return
            # The mean is the gain; the median is robust if single samples of a wide guide are off by many nats.
            center, spread = float(change.median()), float((change - change.median()).abs().median())
            tests = [(float(change.mean()), float(change.std())), (center, SE_OF_MEDIAN * spread)]
            tests = [(gained, sd / math.sqrt(len(change))) for gained, sd in tests]
            self.gained, self.noise = max(tests, key=lambda test: test[0] - SIGMAS * test[1])
            arrived = all(gained <= limit for gained, _ in tests)
            if arrived or self.gained > limit + SIGMAS * self.noise or count >= most:
                return
            count = min(4 * count, most)

    def _losses_of_all_rows(self, count: int, *, seed: int) -> Tensor:
        """Negative bounds (count,) of the present parameters over all rows, with random numbers of ``seed``."""
        one = Trace_ELBO(num_particles=1).differentiable_loss
        with torch.no_grad(), seeded(seed), pyro.validation_enabled(False), quiet():
            if self.bound is not None:
                return self.bound(count).double()
            return torch.stack([one(self.model, self.guide, *self.args) for _ in range(count)]).double()

    def problems(self) -> list[str]:
        """One sentence for each reason to doubt the fit."""
        settings = self.settings
        if self.interrupted:
            return [f"interrupted after {len(self.history['loss'])} of {settings.steps} steps"]
        held_out = self.held_out is not None
        if held_out and self.best_score == -math.inf:
            return [
                "the held-out score was never finite, and the guide is as it was at the end: a held-out row may be "
                "outside of the support of its likelihood, so set holdout=0"
            ]
        if len(self.undone) > settings.steps / 100 or any(step > 0.9 * settings.steps for step in self.undone):
            return [
                f"the bound was not finite after {len(self.undone)} steps, which were undone: the optimum may lie "
                "where the model is not defined"
            ]
        return self._convergence_problems(held_out)

    def _convergence_problems(self, held_out: bool) -> list[str]:
        """The sentence for a probe that gained or lost too much."""
        settings = self.settings
        limit = PER_ROW if held_out else tolerance(self.rows, self.num_elements)
        # A network without a prior overfits. Its probe may lose that gain again, which says nothing about convergence.
        asked = (self.optimiser.noisy or bool(self.program.latents)) and not held_out
        lost = lost_tolerance(limit) if asked else math.inf
        converged = -lost <= self.gained + SIGMAS * self.noise and self.gained <= limit + SIGMAS * self.noise
        decided = self.noise <= lost_tolerance(limit)
        if math.isnan(self.gained):
            return [
                f"the bound is not finite at some of {self.probe_draws} draws of the guide, where the model is not "
                "defined, so convergence cannot be tested: bound the parameters of its likelihood, or standardise"
            ]
        if converged and decided:
            return []
        unit = "nats per row of held-out data" if held_out else f"nats of the bound ({self.rows} rows)"
        cure = f"raise steps above {settings.steps}"
        if self.program.latents and not is_point(self.guide):
            cure += ', start from the mode (init="map")' if settings.init != "map" else ""
            cure += ", or raise particles for a less noisy gradient" if settings.particles == 1 else ""
        if converged:
            return [not_decided("the fit", self.noise, unit, self.probe_draws, cure)]
        more = probe_steps(settings.steps)
        if self.gained < 0 and is_point(self.guide) and not self.optimiser.noisy:
            return [f"the fit has not settled: {NO_MAXIMUM}"]
        if self.gained < 0:
            return [not_settled("the fit", -self.gained, unit, more, cure)]
        return [still_gaining("the fit has not converged and", self.gained, unit, more, cure)]

    def _parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters in unconstrained space, and the units of their steps."""
        with pyro.poutine.trace(param_only=True) as capture:
            first = self._checked(lambda: self.elbo(self.model, self.guide, *self.args))
        if not bool(torch.isfinite(first)):
            others = [name for name in ("median", "uniform", "prior") if name != self.settings.init]
            raise ValueError(
                f"expected init with a finite bound at the start, got a loss of {first.item()} for "
                f"init={self.settings.init!r}{self.refused}: try another ({', '.join(map(repr, others))}), or "
                "standardise the inputs"
            )
        # One recording is enough: later steps have the same parameters.
        nodes = {name: node["value"] for name, node in capture.trace.nodes.items() if node["type"] == "param"}
        if not nodes:
            raise ValueError("expected a model or guide with parameters to fit, got none")
        latent: dict[str, Tensor | float] = {}
        if self.program.latents:
            latent |= prior_units(self.model, self.args)
        if self.settings.init == "map":  # steps of the width of the prior would lead away from the mode
            latent = widths_as_units(self.guide, latent)
        parameters, units = [], []
        for name, value in nodes.items():
            parameters.append(value.unconstrained() if hasattr(value, "unconstrained") else value)
            known = None if name in self.program.parameters else guide_unit(self.guide, name, parameters[-1], latent)
            unit = parameter_unit(parameters[-1].detach()) if known is None else known
            units.append(torch.as_tensor(unit, dtype=value.dtype, device=value.device).expand_as(parameters[-1]))
        return parameters, units

    def _descend(self, steps: int, history: dict[str, list[float]]) -> bool:
        """Take ``steps``; returns whether early stopping on held-out rows ended them."""
        settings, patience = self.settings, Patience(self.settings.patience)
        with progress_bar(steps, "SVI", shown=settings.progress) as bar:
            for step in range(steps):
                loss = self._step(cosine(step, steps, settings.final_rate))
                history["loss"].append(loss)
                bar.update()
                if self.bound is not None and ((step + 1) % ASK_EVERY == 0 or step + 1 == steps):
                    self._ask_pyro()
                if (step + 1) % settings.check_every and step + 1 < steps:
                    continue
                bar.set_postfix_str(f"loss {loss:.1f}", refresh=False)
                if self.held_out is None:
                    continue
                score = self._held_out_score()
                history.setdefault("held_out", []).append(score)
                history.setdefault("held_out_step", []).append(float(step + 1))
                improved = score > self.best_score
                if improved:
                    self.best_score, self.best = score, self._copy()
                if patience.exhausted(improved=improved, scored=self.best_score > -math.inf):
                    return True
        return False

    def _step(self, share: float) -> float:
        """One step at this share of the learning rate; returns the loss before the step.

        If the bound is not finite, the last step is undone and the next steps are smaller.
        """
        for _ in range(BACK_OFFS):
            for value in self.parameters:
                value.grad = None
            loss = self._checked(lambda: self._loss(self.elbo))
            if bool(torch.isfinite(loss)):
                break
            if self.bound is not None:
                self._accepts()  # for the reason
            self._restore(self.good)
            self.optimiser.back_off()
            self.undone.append(self.optimiser.steps)
        else:
            raise ValueError(
                f"expected a finite bound, got a loss of {loss.item()} in step {self.optimiser.steps + 1}"
                f"{self.refused}: try a learning_rate below {self.settings.learning_rate:g}"
            )
        loss.backward()
        self.good = self._copy()
        flat = torch.cat([(torch.zeros_like(v) if v.grad is None else v.grad).reshape(-1) for v in self.parameters])
        changes = self.optimiser.step(self.clip(torch.nan_to_num(flat)), self.settings.learning_rate, share).split(
            [v.numel() for v in self.parameters]
        )
        with torch.no_grad():
            for value, change in zip(self.parameters, changes, strict=True):
                value.add_(change.view_as(value))
        return float(loss.detach())

    def _checked(self, bound: Callable[[], Tensor]) -> Tensor:
        """The ``bound``, or nan if Pyro's checks refuse the parameters of a distribution, for the reason `refused`."""
        try:
            return bound()
        except ValueError as error:
            with pyro.validation_enabled(False), quiet():
                value = bound()  # an error of the model itself is raised again
            self.refused = f" ({' '.join(str(error).split())[:200]})"
            return torch.full_like(value.detach(), torch.nan)

    def _ask_pyro(self) -> None:
        """Go back to the last state that Pyro's checks accept, and on without the engine, if they refuse this state."""
        if self._accepts():
            self.accepted = self._copy()
            return
        self.bound, self.engine = None, "pyro"
        self.engine_reason = "Pyro's checks refuse parameters at which the log joint is finite"
        self._restore(self.accepted)
        self.good = self.accepted
        self.optimiser.back_off()

    def _accepts(self) -> bool:
        """Whether Pyro's checks, which the engine skips, accept the parameters, or the bound is not finite anyway."""
        one = Trace_ELBO(num_particles=1).differentiable_loss
        with torch.no_grad(), seeded(0):
            if bool(torch.isfinite(self._checked(lambda: one(self.model, self.guide, *self.args)))):
                return True
        with torch.no_grad(), seeded(0), pyro.validation_enabled(False), quiet():
            return not bool(torch.isfinite(one(self.model, self.guide, *self.args)))

    def _loss(self, elbo: Callable[..., Tensor]) -> Tensor:
        if self.bound is not None:
            return self.bound(self.settings.particles).mean()
        args, scaled = self.some_rows()
        with scaled:
            return elbo(self.model, self.guide, *args)

    def _copy(self) -> list[Tensor]:
        return [value.detach().clone() for value in self.parameters]

    def _restore(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for value, saved in zip(self.parameters, values, strict=True):
                value.copy_(saved)

    def draw(self, count: int) -> dict[str, Tensor]:
        """Draws of latent sites and values of the model's parameters, each of shape (count, ...)."""
        # The model runs at draws of its prior too, which may be outside of the support.
        with torch.no_grad(), pyro.validation_enabled(False):
            if not self.program.latents:
                latents: dict[str, Tensor] = {}
                count = 1
            elif isinstance(self.guide, autoguide.AutoDelta):
                latents = {n: v.detach().unsqueeze(0) for n, v in self.guide(*self.args).items()}
                count = 1
            else:
                latents = self._sample_guide(count)
            with pyro.poutine.trace() as trace:
                self.model(*self.args)
            nodes = trace.trace.nodes
            parameters = {name: nodes[name]["value"].detach() for name in self.program.parameters}
        return latents | {name: value.expand(count, *value.shape) for name, value in parameters.items()}

    def _sample_guide(self, count: int) -> dict[str, Tensor]:
        one = self._trace_guide()
        if not isinstance(self.guide, autoguide.AutoGuide):
            traces = [self._trace_guide() for _ in range(count)]
            return {name: torch.stack([trace[name] for trace in traces]) for name in one}
        # Pyro's own guides sample all draws at once inside a plate to the left of the plates of the model.
        nesting = _plate_nesting(self.model, self.args)
        with pyro.plate("_posterior_draws", count, dim=-1 - nesting):
            many = self._trace_guide()
        return {name: many[name].reshape(count, *value.shape) for name, value in one.items()}

    def _trace_guide(self) -> dict[str, Tensor]:
        nodes = pyro.poutine.trace(self.guide).get_trace(*self.args).nodes
        return {name: nodes[name]["value"].detach() for name in self.program.latents}

    def _held_out_score(self) -> float:
        """Mean log predictive density of the held-out rows, in nats per row."""
        with torch.no_grad(), seeded(0):
            draws = self.draw(HELD_OUT_DRAWS)
            args, site = self.held_out or (), self.program.one_site()
            scored = score_draws(self.model, args, draws, site, others=self.program.observed)
            log_prob = scored.log_prob.logsumexp(0) - math.log(len(scored.log_prob))
            return float(scored.select_scored(log_prob).mean())


def _plate_nesting(model: Model, args: tuple[Any, ...]) -> int:
    """The number of dimensions that the plates of a model take."""
    nodes = pyro.poutine.trace(model).get_trace(*args).nodes.values()
    dims = [-f.dim for node in nodes if node["type"] == "sample" for f in node["cond_indep_stack"] if f.vectorized]
    return max(dims, default=0)
