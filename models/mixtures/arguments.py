"""Checks of a mixture's parameters and of the values passed to its methods.

torch checks a parameter by a boolean tensor of its size. For large parameters the minimum and maximum find the same
errors in a tenth of the time. Values passed to methods are checked by their shapes only.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.models import chunks


def checked_normal(loc: Tensor, scale: Tensor) -> dist.Normal:
    """``dist.Normal(loc, scale)``, whose validation is faster for large parameters.

    Raises:
        ValueError: loc contains NaN, or scale a number that is not positive (as in ``dist.Normal``).
    """
    if Distribution._validate_args and _is_large(loc) and _is_large(scale) and loc.dtype == scale.dtype:
        (low, high), smallest = torch.aminmax(loc.detach()), torch.aminmax(scale.detach())[0]
        if bool((low > -torch.inf) & (high < torch.inf) & (smallest > 0)):  # false for NaN
            return dist.Normal(loc, scale, validate_args=False)
    return dist.Normal(loc, scale)


def multivariate_parts(logits: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Distribution]:
    """Logits and normal components of D targets of one batch shape, checked for `Mixture.multivariate_normal`."""
    targets = loc.shape[-1] if loc.ndim else 0
    if loc.ndim >= 2 and scale.shape[-2:] == (targets, targets) and scale.ndim == loc.ndim + 1:
        components = dist.MultivariateNormal(loc, scale_tril=scale)
    elif loc.ndim >= 2 and scale.shape == loc.shape:
        components = dist.Normal(loc, scale).to_event(1)
    else:
        raise ValueError(
            f"expected loc of shape (..., K, D) and scale of shape (..., K, D) or (..., K, D, D), got "
            f"{tuple(loc.shape)} and {tuple(scale.shape)}"
        )
    if logits.shape[-1:] != loc.shape[-2:-1]:
        raise ValueError(f"expected logits of shape (..., {loc.shape[-2]}), got {tuple(logits.shape)}")
    try:
        return logits.expand(components.batch_shape), components
    except RuntimeError:
        raise ValueError(
            f"expected logits to broadcast to {tuple(components.batch_shape)}, got {tuple(logits.shape)}"
        ) from None


def batch_places(index: Any, batch: torch.Size, device: torch.device) -> Tensor:
    """Places in the flattened batch that an index into a batch of this shape selects; ``IndexError`` if outside."""
    try:
        return torch.arange(batch.numel(), device=device).reshape(batch)[index]
    except IndexError as error:
        raise IndexError(f"expected an index into a batch of shape {tuple(batch)}: {error}") from None


def has_finite_maximum(logits: Tensor) -> bool:
    """Whether every row of logits (..., K) has a finite maximum and no NaN."""
    logits = logits.detach()
    if _is_large(logits):
        low, high = torch.aminmax(logits)
        if bool((low > -torch.inf) & (high < torch.inf)):
            return True
    return bool(torch._is_all_true(logits.amax(-1).isfinite()))


def as_tensor_like(name: str, value: Any, like: Tensor) -> Tensor:
    """Real numbers as a tensor with the dtype and device of ``like``; ``ValueError`` for other values."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:  # columns of frames are read-only
        value = value.copy()
    try:
        if torch.as_tensor(value).is_complex():
            raise ValueError
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"expected {name} to be real numbers, got {value!r}") from None


def check_value(value: Any, batch: torch.Size, event: torch.Size, like: Tensor) -> Tensor:
    """A value of the target as a tensor; ``ValueError`` unless it broadcasts with batch + event shape."""
    point = value if isinstance(value, Tensor) and value.is_floating_point() else as_tensor_like("value", value, like)
    shape = batch + event
    if not broadcastable(point.shape, shape) or point.shape[point.ndim - len(event) :] != event:
        raise ValueError(f"expected value to broadcast with shape {tuple(shape)}, got shape {tuple(point.shape)}")
    return point


def check_loc_and_scale(loc: Tensor | float, scale: Tensor | float, event: torch.Size, validate: bool) -> None:
    """``ValueError`` unless both are numbers or tensors of the event shape; with ``validate`` finite, and scale > 0."""
    for name, value in (("loc", loc), ("scale", scale)):
        if not isinstance(value, Tensor | Real) or isinstance(value, bool):
            raise ValueError(f"expected {name} to be a number or a tensor, got {value!r}")
        shape = tuple(getattr(value, "shape", ()))
        if shape not in ((), tuple(event)):
            raise ValueError(f"expected {name} of shape () or {tuple(event)}, got {shape}")
        numbers = torch.as_tensor(value)
        allowed = numbers.isfinite() if name == "loc" else numbers.isfinite() & (numbers > 0)
        if validate and not torch._is_all_true(allowed):
            wanted = "a finite number" if name == "loc" else "a finite number above 0"
            raise ValueError(f"expected {name} to be {wanted}, got {value}")


def broadcastable(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether tensors of these shapes broadcast with each other."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _is_large(tensor: Tensor) -> bool:
    return tensor.numel() >= chunks.LARGE and chunks.untransformed(tensor)
