"""Component weights from logits that need not be normalised."""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions.utils import lazy_property

from posterity.models.mixtures.arguments import has_finite_maximum


class Weights(dist.Categorical):
    """Pyro's ``Categorical`` with ``logits`` (..., K) that are normalised at the first access.

    Normalisation is a pass over the memory, with another one for its gradient. The density of 10^6 mixtures avoids it
    by using the ``raw`` logits. A logit of -inf is a weight of 0.

    Raises:
        ValueError: logits without a component dimension, or, unless ``validate_args`` is False, with NaN or with a row
            whose maximum is infinite.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        if logits.ndim < 1 or not logits.shape[-1]:
            raise ValueError(f"expected logits of shape (..., K), K of 1 or more, got {tuple(logits.shape)}")
        self.raw = logits
        self._num_events = logits.shape[-1]
        torch.distributions.Distribution.__init__(self, logits.shape[:-1], validate_args=False)
        checked = torch.distributions.Distribution._validate_args if validate_args is None else validate_args
        self._validate_args = checked
        if checked and not has_finite_maximum(logits):
            raise ValueError(
                "expected logits with a finite maximum in each row, got NaN, inf, or a row of -inf in logits of shape "
                f"{tuple(logits.shape)}"
            )

    @lazy_property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Normalised logits, shape (..., K)."""
        return self.raw - self.raw.logsumexp(-1, keepdim=True)

    def unnormalized(self) -> "Weights":
        """A copy whose ``logits`` are the raw ones, for code that reads only their shape."""
        same = copy.copy(self)
        same.logits = self.raw
        return same

    @property
    def _param(self) -> Tensor:  # type: ignore[override]
        return self.logits

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Weights":
        new = self._get_checked_instance(Weights, _instance)
        shape = Size(batch_shape)
        new.raw, new._num_events = self.raw.expand(*shape, self._num_events), self._num_events
        if "logits" in vars(self):
            new.logits = self.logits.expand(*shape, self._num_events)
        torch.distributions.Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new
