"""One run of a model at one draw of its latent sites: the likelihood, deterministic sites and log densities."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.site_value import scored_elements, site_log_density
from posterity.inference.program.sites import is_subsample


class ReadLikelihood(Messenger):
    """Substitutes one draw for the latent sites and parameters, and stores the distribution of the observed site.

    Args:
        values: the draw, by name.
        site: the observed site.
        others: observed sites whose values may be missing; they are filled with nan and listed in ``filled``.
        scoring: whether to compute ``scores``, the log density of the observation and its scored elements.
        dtype: the dtype to convert the observation to before it is scored.
        terms: whether to store ``terms``, the log densities of all other sites of ``values`` and ``others``.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        site: str,
        others: Collection[str],
        scoring: bool = False,
        dtype: torch.dtype | None = None,
        terms: bool = False,
    ) -> None:
        super().__init__()
        self.values, self.site, self.others, self.dtype, self.scoring = values, site, others, dtype, scoring
        self.terms: dict[str, Tensor] | None = {} if terms else None
        self.likelihood: Distribution | None = None
        self.scores: tuple[Tensor, ...] = ()
        self.filled: list[str] = []
        self.deterministics: dict[str, Tensor] = {}
        self.names: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        self.names.append(name)
        if name == self.site:
            self.likelihood = fn
            self._fill(msg)
            if self.scoring:
                self.scores = site_log_density(msg, self.dtype), scored_elements(msg)
        elif name in self.others:
            self.filled += [] if msg["is_observed"] else [name]
            self._score(msg)
            self._fill(msg)
        elif msg["infer"].get("_deterministic"):
            self.deterministics[name] = msg["value"]
        elif msg["is_observed"] or is_subsample(msg):
            return
        elif name == self.site.removesuffix("_observed") + "_unobserved" and self._has_other_shape(msg):
            self._fill(msg)  # with obs_mask, Pyro samples the masked elements here; no prediction depends on them
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

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
