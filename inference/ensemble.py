"""Ensembles: one model fitted many times, all fits in one batched computation.

Each member maximises the likelihood over the model's parameters (`posterity.models.point`) and the posterior density
over its latent sites (`posterity.models.bayesian`), from its own start. The prediction is the equally weighted mixture
of the predictions of the members: a deep ensemble (Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474). It is
not a posterior, but its uncertainty far from the data is often as realistic.

Discrete latent sites with finite support are summed out exactly, as by the samplers; all rows are then in every step.

All members take their steps at once: with all rows through the engine of the samplers (`posterity.inference.engine`),
with batches of rows under ``vmap``, with different batches for each member.
"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
from torch import Tensor

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.enumeration import without_discrete
from posterity.inference.engine.tiers import TIERS
from posterity.inference.members import MembersFit
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.noise import NoiseScale, check_noise
from posterity.models.guides import initial
from posterity.validation import check_choice, check_fields, check_integer, check_number

GRADIENTS = ("plain", "natural")
BEHIND = ("redo", "leave_out", "keep")


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Settings of an ensemble; `run` is called through `posterity.inference.infer`.

    - ``members``: number of fits. Member 0 starts from the parameters of the model. The others start from normal draws
      with the mean and standard deviation of each parameter tensor. Latent sites start from ``init``: "prior",
      "uniform", "median", or "network" (weights from their module's initialisation, best if the prior is so wide that
      its draws predict far from any data).
    - ``steps`` of Adam at ``learning_rate``, which falls along a cosine to ``final_rate`` times its value; the gradient
      of a member is clipped at ``clip`` times its running median. The steps of latent sites, and of parameters that are
      single numbers, adapt to their units (`posterity.inference.training.optimiser`).
    - A probe of ``steps / 10`` more steps at the full rate then tests whether each member has converged
      (`posterity.inference.training.probe`). If not, there is a ``ConvergenceWarning``, which is also stored in
      ``attrs["warnings"]``.
    - ``behind``: what happens to members that end more than half a nat per row behind the best (and far more than is
      usual among the members). "redo" fits them once more from other starts, which doubles the time, and leaves
      out members that are still behind; "leave_out" leaves them out at once; "keep" keeps them. A
      ``ConvergenceWarning`` lists members that are behind at the end. With ``vary``, no member counts as behind.
    - ``batch_size``: rows per step, with the terms of the observations scaled by N / batch_size; None: all rows.
    - ``holdout``: share of the rows kept out of training, the same rows for all members. Their log score is computed
      every ``check_every`` steps. Each member keeps its best state, and training stops when no member has improved for
      ``patience`` checks.
    - ``keep``: number of members to keep; None: all. Those with the best held-out score are kept, or without
      ``holdout`` those with the highest log joint density.
    - ``restarts``: number of times the learning rate restarts from its first value, each period twice as long as the
      one before (Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983); ``steps`` is the total over all periods.
    - ``noise``: standard deviation of the normal noise that each step adds to the data of each member, in standard
      deviations of each column (`posterity.inference.training.noise`): one number for x and y, a pair (x, y), or
      "rule_of_thumb"; None: no noise. Predictions and held-out scores are without noise; without ``holdout``, members
      are compared by the mean log joint density of 8 copies of the data with noise. Since the data differ in each
      step, the tier is "replay" at best.
    - ``gradient``: "plain", or "natural" for the natural gradient of normals and mixtures of normals
      (`posterity.inference.training.natural_gradient`), for models without latent sites. Scores are log densities as
      ever, but the fit need not be the maximum of the likelihood; a weight decay keeps its own gradient.
    - ``vary``: values (member, ...) of parameters that are fixed and differ between members: settings that the model
      reads by ``pyro.param``, compared side by side (see `sweep`).
    - ``engine``: the tier; "auto", the default, is "replay" for fewer than four members. ``threads``: number of
      threads, None measures the fastest.
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
    noise: NoiseScale | None = None
    gradient: str = "plain"
    vary: Mapping[str, Tensor] | None = None
    init: str = "prior"
    behind: str = "redo"
    engine: str = "auto"
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        initial(self.init)
        check_fields(
            self,
            counts=("members", "steps", "check_every", "patience", "batch_size", "keep", "threads"),
            positive=("learning_rate", "final_rate", "clip"),
        )
        check_number("holdout", self.holdout, "[0, 1)")
        if self.keep is not None and self.keep > self.members:
            check_integer("keep", self.keep, 1, self.members)
        check_integer("restarts", self.restarts, 0)
        if 2 ** (self.restarts + 1) - 1 > self.steps:
            raise ValueError(f"expected restarts from 0 to about log2 of the steps, got {self.restarts}")
        if self.vary is not None and not isinstance(self.vary, Mapping):
            raise ValueError(f"expected vary to be a dictionary of values by name, got {self.vary!r}")
        for name, value in (self.vary or {}).items():
            if not isinstance(value, Tensor) or value.shape[:1] != (self.members,):
                raise ValueError(
                    f"expected a value of {name!r} for each of {self.members} members, got "
                    f"{tuple(value.shape) if isinstance(value, Tensor) else value!r} in vary"
                )
        check_noise(self.noise)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_choice("behind", self.behind, BEHIND)
        check_choice("engine", self.engine, (*TIERS, "auto"))

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """Fit all members; an interrupt keeps them as they are.

        Args:
            model: a Pyro model.
            args: its arguments, y last.
            seed: seed of all random numbers.
            guide: not used.
            site: the observed site, if there are several.

        Raises:
            ValueError: if the log joint is not finite at the start or in too many steps, a batch is larger than the
                data, there is noise on y that is not on the real line, or the gradient is "natural" for a model with
                latent sites or a likelihood that is not of normals. With discrete latent sites, also if ``batch_size``,
                ``holdout``, ``noise`` or natural gradients are set.
        """
        begun = time.perf_counter()
        with pyro.get_param_store().scope():  # the caller's parameters are neither read nor changed
            return self._fitted(model, args, seed, site, begun)

    def _fitted(self, model: Model, args: tuple[Any, ...], seed: int, site: str | None, begun: float) -> Posterior:
        program = inspect(model, args, site)
        rows: dict[str, Any] = {"batch_size": self.batch_size, "holdout": self.holdout}
        rows |= {"noise": str(self.noise)} if self.noise is not None else {}
        rows |= {"gradient": self.gradient} if self.gradient != "plain" else {}
        fitted, of_fit = without_discrete(model, program, args, "Ensemble", rows)
        fit = MembersFit(self, fitted, of_fit, args, seed)
        fit.train()
        chosen, score = fit.chosen()
        values, problems = fit.density.constrain(fit.best[chosen]), fit.problems()
        if fit.interrupted:
            taken = f"its members as they were after {len(fit.history['loss'])} of {self.steps} steps"
            warn_interrupted("Ensemble", taken, "To finish, call infer again: it keeps no checkpoint.", stacklevel=4)
        elif problems:
            warnings.warn(f"Ensemble: {'; '.join(problems)}", ConvergenceWarning, stacklevel=4)
        return Posterior(
            model,
            program,
            draws={name: value.unsqueeze(0) for name, value in values.items()},
            history=fit.curves(chosen),
            attrs={
                "method": "Ensemble",
                "settings": repr(self),
                "seed": seed,
                "seconds": time.perf_counter() - begun,
                "tier": fit.tier,
                "interrupted": int(fit.interrupted),
                "best_score": float(score.max()),
                "redone": fit.redone,
                "warnings": "; ".join(problems),
            },
        )
