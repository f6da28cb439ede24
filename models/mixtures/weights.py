"""The weights of components, from logits that need not be normalised."""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions.utils import lazy_property

from posterity.models.mixtures.checked import has_largest


class Weights(dist.Categorical):
    """A ``Categorical`` of ``logits`` (..., K), as Pyro's, that are normalised when they are first asked for.

    What is a pass through memory, and another one for its gradient, is left to those who need it: a density of
    10^6 mixtures takes the ``raw`` logits. -inf is a weight of nothing. Raises ``ValueError`` for logits that are not
    numbers, or of which a row has no finite largest one (unless ``validate_args`` is false).
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        if logits.ndim < 1 or not logits.shape[-1]:
            raise ValueError(f"expected logits of shape (..., K), K of 1 or more, got {tuple(logits.shape)}")
        self.raw = logits
        self._num_events = logits.shape[-1]
        torch.distributions.Distribution.__init__(self, logits.shape[:-1], validate_args=False)
        checked = torch.distributions.Distribution._validate_args if validate_args is None else validate_args
        self._validate_args = checked
        if checked and not has_largest(logits):
            raise ValueError(
                "expected logits that are numbers, with a finite largest one in every row, got nan, inf or -inf alone "
                f"in logits of shape {tuple(logits.shape)}"
            )

    @lazy_property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Normalised, shape (..., K)."""
        return self.raw - self.raw.logsumexp(-1, keepdim=True)

    def unnormalized(self) -> "Weights":
        """The same with logits as they were given: for what asks for nothing but their shape."""
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
