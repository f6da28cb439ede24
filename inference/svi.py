"""Stochastic variational inference: a posterior in seconds, as good as its guide.

`SVI` maximises the evidence lower bound (Hoffman et al. 2013; Kucukelbir et al. 2017) over a guide of yours or one
by name, from narrow to wide:

- ``"map"``: a point, the mode of the joint density (no uncertainty of the weights);
- ``"mean_field"``: independent normals; too narrow wherever weights are correlated, and quick;
- ``"low_rank"``: a normal of covariance diagonal + rank r;
- ``"full_rank"``: a normal of full covariance; exact for a linear model with normal noise.

A model without latent sites (its network enters by `posterity.models.point`) needs no guide: maximising the bound
is then maximum likelihood, plus whatever ``pyro.factor`` the model adds.
"""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, autoguide
from torch import Tensor
from tqdm.auto import tqdm

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.density import PointDensity
from posterity.inference.posterior import Posterior
from posterity.inference.program.likelihood import score
from posterity.inference.program.minibatch import ScaleObservations, count_rows, row_terms, take
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.trace import Model, default_dtype
from posterity.inference.training.clipping import RelativeClip
from posterity.inference.training.guide_widths import (
    guide_unit,
    is_point,
    limit_widths,
    set_widths,
    widths_as_units,
    with_spread,
)
from posterity.inference.training.holdout import Patience, check_batch_size, hold_out
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.probe import (
    NO_MAXIMUM,
    PER_ROW,
    lost_tolerance,
    not_settled,
    probe_steps,
    still_gaining,
    tolerance,
)
from posterity.inference.training.schedule import cosine
from posterity.inference.training.units import parameter_unit, prior_units
from posterity.models.guides import GUIDES, empty_guide, initial, make_guide
from posterity.random import child_seeds, seeded
from posterity.validation import check_fields, check_number

Guide = Callable[..., Any]
HELD_OUT_DRAWS = 32
PROBE_DRAWS, MOST_PROBE_DRAWS = 16, 512  # samples of the bound before and after the probe
PROBE_WORK = 4  # evaluations of the data in training for each one that decides an undecided probe
SE_OF_MEDIAN = 1.2533 * 1.4826  # of a normal, over the median absolute deviation
STARTS = 20  # draws of init until the bound is finite
SIGMAS = 3  # standard errors by which a gain has to exceed the tolerance
BACK_OFFS = 20  # largest number of consecutive steps that are undone because the bound is not finite


@dataclass(frozen=True, kw_only=True)
class SVI:
    """Settings of variational inference; `run` is called through `posterity.inference.infer`.

    - ``guide``: a name, a callable with the model's signature, or None (the guide of the ready pair, else mean-field).
      An object of Pyro's ``autoguide`` stores its parameters, so a second fit with it starts from the first: use a
      name, or a new object.
    - ``steps`` of Adam at ``learning_rate``, which falls along a cosine to ``final_rate`` times its value; the gradient
      norm is clipped at ``clip`` times its running median. Each step uses ``particles`` samples of the bound. Step
      sizes adapt to the units of the sites (`posterity.inference.training.optimiser`).
    - A probe of ``steps / 10`` more steps at the full rate then tests whether the fit has converged
      (`posterity.inference.training.probe`). If not, a ``ConvergenceWarning`` says so, and ``attrs["warnings"]`` stores it.
    - ``batch_size``: rows per step; the terms of the observations are scaled by N / batch_size, so that the prior
      counts once per data set and not once per batch. A ``pyro.factor`` of the data has to stand in the plate of the
      rows to be scaled with them. None: all rows.
    - ``holdout``: share of the rows kept out of training. The guide's predictive log score on these rows is computed
      every ``check_every`` steps. Training stops after ``patience`` checks without improvement and keeps the best fit.
    - ``draws`` from the guide make up the `Posterior` (one for a point).
    - ``init_scale``: initial standard deviation of the guide, relative to the spread of each site's prior; less where
      the log joint is curved more than that. ``rank`` of the low-rank guide (default: square root of the dimension).
    - ``init``: "prior", "network" (weights from their module's initialisation), "uniform", "median", or "map": the
      posterior mode, found first with a third as many steps. From the prior, a wide guide for a mixture may converge
      to a state in which most components have no weight.
    """

    guide: str | Guide | None = None
    steps: int = 3000
    learning_rate: float = 0.01
    final_rate: float = 0.01
    clip: float = 10.0
    particles: int = 1
    batch_size: int | None = None
    holdout: float = 0.0
    check_every: int = 50
    patience: int = 20
    draws: int = 1000
    init_scale: float = 0.05
    rank: int | None = None
    init: str = "prior"
    progress: bool = True

    def __post_init__(self) -> None:
        known = self.guide in GUIDES if isinstance(self.guide, str) else self.guide is None or callable(self.guide)
        if not known:
            raise ValueError(f"expected a guide from {list(GUIDES)} or a callable, got {self.guide!r}")
        if not isinstance(self.init, str) or self.init != "map":
            initial(self.init)
        check_fields(
            self,
            counts=("steps", "particles", "draws", "check_every", "patience", "batch_size", "rank"),
            positive=("learning_rate", "final_rate", "clip", "init_scale"),
        )
        check_number("holdout", self.holdout, "[0, 1)")

    def run(
        self, model: Model, *args: Any, seed: int, guide: Guide | None = None, site: str | None = None
    ) -> Posterior:
        """Fit the guide and draw from it. An interrupt keeps what is fitted so far.

        Raises ``ValueError`` where the bound is not finite at the start, or a batch is larger than the data.
        """
        program = inspect(model, args, site)
        chosen = self.guide if self.guide is not None else guide
        start = time.perf_counter()
        wide = default_dtype(_promoted(model, args))
        with seeded(child_seeds(seed, 1)[0]), pyro.get_param_store().scope(), wide:
            fit = _Fit(self, model, program, args)
            for _ in range(STARTS):
                fit.guide = built = self._build_guide(chosen, model, program, fit.args, seed, site)
                if not isinstance(chosen or "", str):  # a guide of the caller's is taken as it is
                    break
                some, scaled = fit.some_rows()
                with scaled:
                    limit_widths(built, model, some)
                if fit.has_a_bound():
                    break
                pyro.get_param_store().clear()  # another draw of init: a new guide
            fit.train()
            draws = fit.draw(self.draws)
        seconds, problems = time.perf_counter() - start, fit.problems()
        if fit.interrupted:
            taken = f"the guide as it was after {len(fit.history['loss'])} of {self.steps} steps"
            warn_interrupted("SVI", taken, "To finish, call infer again: it keeps no checkpoint.", stacklevel=3)
        elif problems:
            warnings.warn(f"SVI: {'; '.join(problems)}", ConvergenceWarning, stacklevel=3)
        name = chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(built).__name__)
        return Posterior(
            model,
            program,
            draws={name: value.unsqueeze(0) for name, value in draws.items()},
            history={name: torch.tensor(values) for name, values in fit.history.items()},
            attrs={
                "method": "SVI",
                "guide": name if program.latents else "none",
                "settings": repr(self),
                "seed": seed,
                "seconds": seconds,
                "interrupted": int(fit.interrupted),
                "warnings": "; ".join(problems),
            },
        )

    def _build_guide(
        self,
        chosen: str | Guide | None,
        model: Model,
        program: Program,
        args: tuple[Any, ...],
        seed: int,
        site: str | None,
    ) -> Guide:
        if not program.latents:
            return empty_guide
        if chosen is not None and not isinstance(chosen, str):
            return chosen
        init: str | dict[str, Tensor] = self.init
        if init == "map":
            settings = replace(self, guide="map", init="prior", steps=max(1, self.steps // 3), holdout=0.0)
            with warnings.catch_warnings():
                # The warning that matters is about the fit that starts from this mode.
                warnings.simplefilter("ignore", (ConvergenceWarning))
                mode = settings.run(model, *args, seed=seed, site=site)
            if mode.attrs["interrupted"]:
                raise KeyboardInterrupt("interrupted before the first step from the mode")
            init = {name: value[0, 0] for name, value in mode.draws.items() if name in program.latents}
        guide = make_guide(chosen or "mean_field", model, init=init, init_scale=self.init_scale, rank=self.rank)
        set_widths(guide, args, prior_units(model, args), self.init_scale)
        return guide


def _promoted(model: Model, args: tuple[Any, ...]) -> torch.dtype | None:
    """The default dtype in which the model takes the precision of its data, None where it is torch's own."""
    with warnings.catch_warnings(), pyro.get_param_store().scope():
        warnings.simplefilter("ignore", RuntimeWarning)  # of engines, which are not used here
        try:
            return PointDensity(model, args).promoted
        except ValueError:  # a model that an engine refuses may have a guide all the same
            return None


class _Fit:
    """One optimisation: its data, its parameters, its learning curve."""

    def __init__(self, settings: SVI, model: Model, program: Program, args: tuple[Any, ...]) -> None:
        self.settings, self.model, self.program = settings, model, program
        self.guide: Guide = empty_guide
        self.history: dict[str, list[float]] = {"loss": []}
        self.interrupted, self.gained, self.noise = False, 0.0, 0.0
        self.lost: list[int] = []  # steps after which the bound was not finite
        self.args, self.held_out = hold_out(args, settings.holdout)
        self.rows = count_rows(self.args)
        check_batch_size(settings.batch_size, self.rows)
        whole = settings.batch_size is None or settings.batch_size == self.rows
        self.row_plates, self.row_sites = ((), ()) if whole else row_terms(model, self.args, program)
        self.elbo = Trace_ELBO(num_particles=settings.particles).differentiable_loss
        self.best, self.kept = -math.inf, list[Tensor]()

    def some_rows(self) -> tuple[tuple[Any, ...], AbstractContextManager[Any]]:
        """Data of one step, and what scales its terms to those of all rows."""
        batch = self.settings.batch_size
        if batch is None or batch == self.rows:
            return self.args, nullcontext()
        scaled = ScaleObservations(self.program, self.row_plates, batch, self.rows, self.row_sites)
        return take(self.args, torch.randperm(self.rows)[:batch]), scaled

    def has_a_bound(self) -> bool:
        """Whether the bound is finite for the guide as it is."""
        with torch.no_grad():
            return bool(torch.isfinite(self.elbo(self.model, self.guide, *self.args)))

    def train(self) -> None:
        """Fit, then test convergence. An interrupt keeps the fit so far."""
        self.parameters, units = self._parameters()
        self.numbers = sum(value.numel() for value in self.parameters)
        self.optimiser = AdaptiveAdam(
            torch.cat([u.reshape(-1) for u in units]),
            noisy=not is_point(self.guide) or self.settings.batch_size is not None,
        )
        self.good, self.clip = self._copy(), RelativeClip(self.settings.clip)
        try:
            stopped = self._descend(self.settings.steps, self.history)
            if not stopped:
                self._probe()
        except KeyboardInterrupt:
            self.interrupted = True
        if self.best > -math.inf:  # held-out rows were scored at least once
            self._put(self.kept)
        self.guide = with_spread(self.guide, self.args)

    def _probe(self) -> None:
        """Continue the fit at the full learning rate, measure the gain, and restore the fit."""
        end, best, kept = self._copy(), self.best, self.kept
        try:
            self._descend(probe_steps(self.settings.steps), {"loss": []})
            if self.held_out is not None:
                self.gained = max(self.best - best, 0.0)
            else:
                self._measure(end, self._copy())
        finally:
            self._put(end)
            self.best, self.kept = best, kept

    def _measure(self, before: list[Tensor], after: list[Tensor]) -> None:
        """By how much the bound gained in the probe, from as many samples of it as the answer takes, within a limit."""
        passes = self.settings.steps * (self.settings.batch_size or self.rows) / self.rows
        most = max(PROBE_DRAWS, min(MOST_PROBE_DRAWS, int(passes / PROBE_WORK)))
        limit, change = tolerance(self.rows, self.numbers), torch.empty(0).double()
        count = PROBE_DRAWS if self.program.latents else 1
        while True:
            losses = []
            for parameters in (before, after):
                self._put(parameters)
                losses.append(self._exact_losses(count - len(change), seed=count))
            change = torch.cat([change, losses[0] - losses[1]])
            if not self.program.latents:
                self.gained = float(change)
                return
            # The mean is the gain; the median holds where single draws of a wide guide are off by any number of nats.
            center, spread = float(change.median()), float((change - change.median()).abs().median())
            tests = [(float(change.mean()), float(change.std())), (center, SE_OF_MEDIAN * spread)]
            tests = [(gained, sd / math.sqrt(len(change))) for gained, sd in tests]
            self.gained, self.noise = max(tests, key=lambda test: test[0] - SIGMAS * test[1])
            arrived = all(gained <= limit for gained, _ in tests)
            if arrived or self.gained > limit + SIGMAS * self.noise or count >= most:
                return
            count = min(4 * count, most)

    def _exact_losses(self, count: int, *, seed: int) -> Tensor:
        """Negative bounds (count,) of the current parameters over all rows; the same ``seed``, the same randomness."""
        one = Trace_ELBO(num_particles=1).differentiable_loss
        with torch.no_grad(), seeded(seed):
            return torch.stack([one(self.model, self.guide, *self.args) for _ in range(count)]).double()

    def problems(self) -> list[str]:
        """One sentence for each reason to doubt the fit."""
        settings = self.settings
        if self.interrupted:
            return [f"interrupted after {len(self.history['loss'])} of {settings.steps} steps"]
        held_out = self.held_out is not None
        if held_out and self.best == -math.inf:
            return [
                "the held-out score was never finite, and the guide is as it was at the end: a held-out row may be "
                "outside of the support of its likelihood, so set holdout=0"
            ]
        if len(self.lost) > settings.steps / 100 or any(step > 0.9 * settings.steps for step in self.lost):
            return [
                f"the bound was not finite after {len(self.lost)} steps, which were undone: the optimum may lie where "
                "the model is not defined"
            ]
        limit = PER_ROW if held_out else tolerance(self.rows, self.numbers)
        # A network without a prior overfits. Its probe may lose that gain again, which says nothing about convergence.
        asked = (self.optimiser.noisy or bool(self.program.latents)) and not held_out
        lost = lost_tolerance(limit) if asked else math.inf
        if -lost <= self.gained + SIGMAS * self.noise and self.gained <= limit + SIGMAS * self.noise:
            return []
        unit = "nats per row of held-out data" if held_out else f"nats of the bound ({self.rows} rows)"
        cure = f"raise steps above {settings.steps}"
        if self.program.latents and not is_point(self.guide):
            cure += ', start from the mode (init="map")' if settings.init != "map" else ""
            cure += ", or raise particles for a less noisy gradient" if settings.particles == 1 else ""
        more = probe_steps(settings.steps)
        if self.gained < 0 and is_point(self.guide) and not self.optimiser.noisy:
            return [f"the fit has not settled: {NO_MAXIMUM}"]
        if self.gained < 0:
            return [not_settled("the fit", -self.gained, unit, more, cure)]
        return [still_gaining("the fit has not converged and", self.gained, unit, more, cure)]

    def _parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters in unconstrained space, and the units of their steps."""
        with pyro.poutine.trace(param_only=True) as capture:
            first = self.elbo(self.model, self.guide, *self.args)
        if not bool(torch.isfinite(first)):
            others = [name for name in ("median", "uniform", "prior") if name != self.settings.init]
            raise ValueError(
                f"expected init with a finite bound at the start, got a loss of {first.item()} for "
                f"init={self.settings.init!r}: try another ({', '.join(map(repr, others))}), or standardise the inputs"
            )
        # One recording is enough: later steps have the same parameters.
        nodes = {name: node["value"] for name, node in capture.trace.nodes.items() if node["type"] == "param"}
        if not nodes:
            raise ValueError("expected a model or guide with parameters to fit, got none")
        latent: dict[str, Tensor | float] = {}
        if self.program.latents:
            latent |= prior_units(self.model, self.args)
        if self.settings.init == "map":  # from the mode, steps as long as the prior is wide would lead away
            latent = widths_as_units(self.guide, latent)
        parameters, units = [], []
        for name, value in nodes.items():
            parameters.append(value.unconstrained() if hasattr(value, "unconstrained") else value)
            own = None if name in self.program.parameters else guide_unit(self.guide, name, parameters[-1], latent)
            unit = parameter_unit(parameters[-1].detach()) if own is None else own
            units.append(torch.as_tensor(unit, dtype=value.dtype, device=value.device).expand_as(parameters[-1]))
        return parameters, units

    def _descend(self, steps: int, history: dict[str, list[float]]) -> bool:
        """Take ``steps``; returns whether early stopping on held-out rows ended them."""
        settings, patience = self.settings, Patience(self.settings.patience)
        with tqdm(total=steps, desc="SVI", disable=not settings.progress, leave=False) as bar:
            for step in range(steps):
                loss = self._step(cosine(step, steps, settings.final_rate))
                history["loss"].append(loss)
                bar.update()
                if (step + 1) % settings.check_every and step + 1 < steps:
                    continue
                bar.set_postfix_str(f"loss {loss:.1f}", refresh=False)
                if self.held_out is None:
                    continue
                score = self._score()
                history.setdefault("held_out", []).append(score)
                history.setdefault("held_out_step", []).append(float(step + 1))
                improved = score > self.best
                if improved:
                    self.best, self.kept = score, self._copy()
                if patience.exhausted(improved=improved, scored=self.best > -math.inf):
                    return True
        return False

    def _step(self, share: float) -> float:
        """One step at this share of the learning rate; returns the loss before the step.

        If the bound is not finite, the last step is undone and the next steps are smaller.
        """
        for _ in range(BACK_OFFS):
            for value in self.parameters:
                value.grad = None
            loss = self._loss(self.elbo)
            if bool(torch.isfinite(loss)):
                break
            self._put(self.good)
            self.optimiser.back_off()
            self.lost.append(self.optimiser.steps)
        else:
            raise ValueError(
                f"expected a finite bound, got a loss of {loss.item()} in step {self.optimiser.steps + 1}: "
                f"try a learning_rate below {self.settings.learning_rate:g}"
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

    def _copy(self) -> list[Tensor]:
        return [value.detach().clone() for value in self.parameters]

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for value, saved in zip(self.parameters, values, strict=True):
                value.copy_(saved)

    def draw(self, count: int) -> dict[str, Tensor]:
        """Draws of latent sites and values of the model's parameters, each of shape (count, ...)."""
        with torch.no_grad():
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
        # Pyro's own guides sample all draws at once inside a plate to the left of all of the model's.
        nesting = _plate_nesting(self.model, self.args)
        with pyro.plate("_posterior_draws", count, dim=-1 - nesting):
            many = self._trace_guide()
        return {name: many[name].reshape(count, *value.shape) for name, value in one.items()}

    def _trace_guide(self) -> dict[str, Tensor]:
        nodes = pyro.poutine.trace(self.guide).get_trace(*self.args).nodes
        return {name: nodes[name]["value"].detach() for name in self.program.latents}

    def _score(self) -> float:
        """Mean log predictive density of the held-out rows, in nats per row."""
        with torch.no_grad(), seeded(0):
            draws = self.draw(HELD_OUT_DRAWS)
            args, site = self.held_out or (), self.program.site
            found = score(self.model, args, draws, site, others=self.program.observed)
            each = found.log_prob.logsumexp(0) - math.log(len(found.log_prob))
            return float(found.left(each).mean())

    def _loss(self, elbo: Callable[..., Tensor]) -> Tensor:
        args, scaled = self.some_rows()
        with scaled:
            return elbo(self.model, self.guide, *args)


def _plate_nesting(model: Model, args: tuple[Any, ...]) -> int:
    nodes = pyro.poutine.trace(model).get_trace(*args).nodes.values()
    dims = [-f.dim for node in nodes if node["type"] == "sample" for f in node["cond_indep_stack"] if f.vectorized]
    return max(dims, default=0)
