"""One run of a model at one draw of its latent sites: likelihoods, deterministic sites and log densities."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.enumeration import DiscreteSiteError, EnumeratedSites
from posterity.inference.program.held_parameters import HeldParameters
from posterity.inference.program.site_value import scored_elements, site_log_density
from posterity.inference.program.sites import is_deterministic, is_subsample


class ReadLikelihood(HeldParameters):
    """Substitutes one draw for the latent sites and parameters, and stores the distributions of observed sites.

    Args:
        values: the draw, by name.
        sites: the observed sites to read, in ``likelihoods`` by name.
        others: observed sites whose values may be missing; they are filled with nan and listed in ``filled``.
        scoring: the sites among ``sites`` to score, each with the dtype to convert the observation to before, or None;
            ``scores`` holds the log density of the observation and its scored elements.
        enumerated: the discrete latent sites of the run, which are summed out; None if there are none.
        terms: whether to store ``terms``, the log densities of all other sites of ``values`` and ``others``.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        sites: Collection[str],
        others: Collection[str],
        scoring: Mapping[str, torch.dtype | None] | None = None,
        terms: bool = False,
        enumerated: EnumeratedSites | None = None,
    ) -> None:
        super().__init__(values)
        self.sites, self.others, self.scoring = sites, others, scoring or {}
        self.terms: dict[str, Tensor] | None = {} if terms else None
        self.enumerated = enumerated
        self.likelihoods: dict[str, Distribution] = {}
        self.scores: dict[str, tuple[Tensor, Tensor]] = {}
        self.unobserved = {name.removesuffix("_observed") + "_unobserved" for name in sites}
        self.filled: list[str] = []
        self.deterministics: dict[str, Tensor] = {}
        self.names: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        self.names.append(name)
        if name in self.sites:
            if self.enumerated is not None and self.enumerated.depends(fn):
                msg["fn"] = fn = self.enumerated.marginal(name, fn, msg["cond_indep_stack"])
            self.likelihoods[name] = fn
            self.filled += [] if msg["is_observed"] or len(self.sites) == 1 else [name]
            self._fill(msg)
            if name in self.scoring:
                self.scores[name] = site_log_density(msg, self.scoring[name]), scored_elements(msg)
        elif name in self.others:
            self.filled += [] if msg["is_observed"] else [name]
            self._score(msg)
            self._fill(msg)
        elif is_deterministic(msg):
            if self.enumerated is None or not self.enumerated.changes(name, msg["value"]):
                self.deterministics[name] = msg["value"]
        elif msg["is_observed"] or is_subsample(msg):
            return
        elif name in self.unobserved and self._has_other_shape(msg):
            self._fill(msg)  # with obs_mask, Pyro samples the masked elements here; no prediction depends on them
        elif name not in self.values and fn.support.is_discrete:
            if self.enumerated is None:
                raise DiscreteSiteError(name)
            self.enumerated.add(msg)
        elif self.enumerated is not None and self.enumerated.depends(fn):
            raise ValueError(
                f"expected continuous latent sites that do not depend on discrete ones, got {name!r}: its posterior is "
                "that of the model, but the likelihood given one draw is not known"
            )
        elif name not in self.values:
            raise ValueError(f"expected draws of every latent site, got none of {name!r}")
        elif self._has_other_shape(msg):
            raise ValueError(
                f"expected draws of {name!r} of shape {tuple(fn.shape())} with these inputs, got "
                f"{tuple(self.values[name].shape)}: "
                "they are of another model, or of a site of each row, which cannot be moved to other rows"
            )
        else:
            msg["value"] = self.values[name]
            self._score(msg)

    def _score(self, msg: Any) -> None:
        if self.terms is not None and msg["value"] is not None:
            self.terms[msg["name"]] = site_log_density(msg)

    def _has_other_shape(self, msg: Any) -> bool:
        return msg["name"] not in self.values or self.values[msg["name"]].shape != msg["fn"].shape()

    def _fill(self, msg: Any) -> None:
        """Use nan for a missing value: it is never scored, and every result that depends on it is nan."""
        if msg["value"] is None:
            msg["value"], msg["is_observed"] = torch.full(msg["fn"].shape(), torch.nan), True
