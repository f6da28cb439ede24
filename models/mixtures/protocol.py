"""The attributes and methods of a mixture that the modules of this package use."""

from typing import Any, Protocol, Self

import torch
from torch import Tensor


class MixtureLike(Protocol):
    """A mixture of one target, such as `posterity.models.Mixture`."""

    _validate_args: bool

    @property
    def mixture_distribution(self) -> Any: ...

    @property
    def component_distribution(self) -> Any: ...

    @property
    def batch_shape(self) -> torch.Size: ...

    @property
    def event_shape(self) -> torch.Size: ...

    @property
    def num_components(self) -> int: ...

    @property
    def log_weights(self) -> Tensor: ...

    @property
    def mean(self) -> Tensor: ...

    def log_prob(self, value: Tensor) -> Tensor: ...

    def cdf(self, value: Tensor) -> Tensor: ...

    def sf(self, value: Tensor) -> Tensor: ...

    def icdf(self, probability: Tensor | float) -> Tensor: ...

    def __getitem__(self, index: Any) -> Self: ...
