"""What a model says at one draw of its latent sites."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.observed import scored, site_log_density


class Reader(Messenger):
    """Puts one draw in place of the latent sites and keeps the distribution of the observed one."""

    def __init__(
        self,
        values: Mapping[str, Tensor],
        site: str,
        others: Collection[str],
        scoring: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.values, self.site, self.others, self.dtype, self.scoring = values, site, others, dtype, scoring
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
                self.scores = site_log_density(msg, self.dtype), scored(msg)
        elif name in self.others:
            self.filled += [] if msg["is_observed"] else [name]
            self._fill(msg)
        elif msg["infer"].get("_deterministic"):
            self.deterministics[name] = msg["value"]
        elif msg["is_observed"] or type(fn).__name__ == "_Subsample":
            return
        elif name == self.site.removesuffix("_observed") + "_unobserved" and self._other_rows(msg):
            self._fill(msg)  # with obs_mask, Pyro draws here what the mask leaves out: no prediction depends on it
        elif name not in self.values:
            raise ValueError(f"expected draws of every latent site, got none of {name!r}")
        elif self.values[name].shape != fn.shape():
            raise ValueError(
                f"expected draws of {name!r} of shape {tuple(fn.shape())} with these inputs, got "
                f"{tuple(self.values[name].shape)}: "
                "they are of another model, or of a site of each row, which cannot be moved to other rows"
            )
        else:
            msg["value"] = self.values[name]

    def _other_rows(self, msg: Any) -> bool:
        return msg["name"] not in self.values or self.values[msg["name"]].shape != msg["fn"].shape()

    def _fill(self, msg: Any) -> None:
        """A value where there must be one; it is never scored, and nan shows wherever it is used."""
        if msg["value"] is None:
            msg["value"], msg["is_observed"] = torch.full(msg["fn"].shape(), torch.nan), True

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
