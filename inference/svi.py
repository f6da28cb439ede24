"""Stochastic variational inference: an approximate posterior in seconds, as accurate as its guide.

`SVI` maximises the evidence lower bound (Hoffman et al. 2013; Kucukelbir et al. 2017) over a guide of your own or one
of these, from narrow to wide:

- ``"map"``: a point, the mode of the joint density (no uncertainty of the weights);
- ``"mean_field"``: independent normals; fast, and too narrow wherever weights are correlated;
- ``"low_rank"``: a normal with covariance diagonal + rank r;
- ``"full_rank"``: a normal with full covariance; exact for a linear model with normal noise.

Discrete latent sites with finite support are summed out exactly, as by the samplers; all rows are then in every step.

A model without latent sites (its network enters by `posterity.models.point`) needs no guide: maximising the bound
is then maximum likelihood, plus whatever ``pyro.factor`` the model adds.
"""

import time
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.density import PointDensity
from posterity.inference.engine.enumeration import check_guide_sites, without_discrete
from posterity.inference.guide_fit import Guide, GuideFit
from posterity.inference.posterior import Posterior
from posterity.inference.program.by_position import called_as
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model, default_dtype
from posterity.inference.training.guide_widths import limit_widths, set_widths
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.units import prior_units
from posterity.models.guides import GUIDES, empty_guide, initial, make_guide
from posterity.random import child_seeds, seeded
from posterity.validation import check_fields, check_number

STARTS = 20  # draws of init until the bound is finite


@dataclass(frozen=True, kw_only=True)
class SVI:
    """Settings of variational inference; `run` is called through `posterity.inference.infer`.

    - ``guide``: a name, a callable with the model's signature, or None (the guide of the ready pair, else mean-field).
      An object of Pyro's ``autoguide`` stores its parameters, so a second fit with it starts where the first ended: use
      a name, or a new object.
    - ``steps`` of Adam at ``learning_rate``, which falls along a cosine to ``final_rate`` times its value; the gradient
      norm is clipped at ``clip`` times its running median. Each step uses ``particles`` samples of the bound. Step
      sizes adapt to the units of the sites (`posterity.inference.training.optimiser`).
    - A probe of ``steps / 10`` more steps at the full rate then tests whether the fit has converged
      (`posterity.inference.training.probe`). If it has not, there is a ``ConvergenceWarning``, which is also stored in
      ``attrs["warnings"]``.
    - ``batch_size``: rows per step; the terms of the observations are scaled by N / batch_size, so that the prior
      counts once per data set and not once per batch. A ``pyro.factor`` of the data is scaled only inside the plate of
      the rows. None: all rows.
    - ``holdout``: share of the rows kept out of training. The guide's predictive log score on these rows is computed
      every ``check_every`` steps. Training stops after ``patience`` checks without improvement and keeps the best fit.
    - ``draws``: number of draws from the guide in the `Posterior` (one for a point).
    - ``init_scale``: initial standard deviation of the guide, relative to the spread of each site's prior; smaller if
      the curvature of the log joint is larger. ``rank``: rank of the low-rank guide (default: square root of the
      dimension).
    - The log joint and its gradient come from the engine of the samplers (`posterity.inference.engine`), for all
      ``particles`` at once, if the guide has a name, each step takes all rows, and the model can be recorded. Pyro runs
      everything else, fits of fewer than 300 steps, and models with more than 10 million rows times dimensions. Values
      are the same. ``attrs["engine"]`` is "lanes", "replay" or "pyro"; ``attrs["engine_reason"]`` says why it is not a
      faster one, if there is a reason.
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
            raise ValueError(f"expected guide to be one of {list(GUIDES)} or a callable, got {self.guide!r}")
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
        """Fit the guide and draw from it. An interrupt keeps the fit so far.

        Args:
            model: a Pyro model.
            args: its arguments, y last.
            seed: seed of all random numbers.
            guide: the guide of a ready pair, used if the setting ``guide`` is None.
            site: the observed site, if there are several.

        Raises:
            ValueError: if the bound is not finite at the start, a batch is larger than the data, or a model with
                discrete latent sites is fitted with ``batch_size`` or ``holdout``.
        """
        program = inspect(model, args, site)
        rows = {"batch_size": self.batch_size, "holdout": self.holdout}
        chosen = self.guide if self.guide is not None else guide
        start, precision = time.perf_counter(), _data_precision(model, args)
        with seeded(child_seeds(seed, 1)[0]), pyro.get_param_store().scope(), precision:
            fitted, of_fit = without_discrete(model, program, args, "SVI", rows)
            fit = GuideFit(self, fitted, of_fit, args)
            self._start(fit, chosen, seed, of_fit.site and site)
            guide_type = type(fit.guide).__name__
            fit.train()
            draws = fit.draw(self.draws)
        seconds, problems = time.perf_counter() - start, fit.problems()
        if fit.interrupted:
            taken = f"the guide as it was after {len(fit.history['loss'])} of {self.steps} steps"
            warn_interrupted("SVI", taken, "To finish, call infer again: it keeps no checkpoint.", stacklevel=3)
        elif problems:
            warnings.warn(f"SVI: {'; '.join(problems)}", ConvergenceWarning, stacklevel=3)
        name = chosen if isinstance(chosen, str) else getattr(chosen, "__name__", guide_type)
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
                "engine": fit.engine,
                "engine_reason": fit.engine_reason,
                "interrupted": int(fit.interrupted),
                "warnings": "; ".join(problems),
            },
        )

    def _start(self, fit: GuideFit, chosen: str | Guide | None, seed: int, site: str | None) -> None:
        """Give the fit its guide; a guide by name is made again until the bound is finite, `STARTS` times at most."""
        for _ in range(STARTS):
            fit.guide = self._build_guide(fit, chosen, seed, site)
            fit.by_name = isinstance(chosen or "", str) or fit.guide is empty_guide
            if not isinstance(chosen or "", str):  # the guide of the caller is used as it is
                break
            rows, scaled = fit.some_rows()
            with scaled:
                limit_widths(fit.guide, fit.model, rows)
            if fit.has_finite_bound():
                break
            pyro.get_param_store().clear()  # another draw of init: a new guide

    def _build_guide(self, fit: GuideFit, chosen: str | Guide | None, seed: int, site: str | None) -> Guide:
        model, args, latents = fit.model, fit.args, fit.program.latents
        if not latents:
            return empty_guide
        if chosen is not None and not isinstance(chosen, str):
            guide = called_as(chosen, model)
            check_guide_sites(model, guide, args)
            return guide
        init: str | dict[str, Tensor] = self.init
        if init == "map":
            settings = replace(self, guide="map", init="prior", steps=max(1, self.steps // 3), holdout=0.0)
            with warnings.catch_warnings():
                # Only the fit that starts from this mode warns.
                warnings.simplefilter("ignore", ConvergenceWarning)
                mode = settings.run(model, *args, seed=seed, site=site)
            if mode.attrs["interrupted"]:
                raise KeyboardInterrupt("interrupted before the first step from the mode")
            init = {name: value[0, 0] for name, value in mode.draws.items() if name in latents}
        guide = make_guide(chosen or "mean_field", model, init=init, init_scale=self.init_scale, rank=self.rank)
        set_widths(guide, args, prior_units(model, args), self.init_scale)
        return guide


def _data_precision(model: Model, args: tuple[Any, ...]) -> AbstractContextManager[None]:
    """A context in which torch's default dtype is that of the data, if the model needs it."""
    with warnings.catch_warnings(), pyro.get_param_store().scope():
        warnings.simplefilter("ignore", RuntimeWarning)  # of engines, which are not used here
        try:
            promoted = PointDensity(model, args).promoted
        except ValueError:  # a model that an engine refuses may still have a guide
            promoted = None
    return default_dtype(promoted)
