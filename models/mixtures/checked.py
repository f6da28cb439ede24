"""Parts of a mixture, checked for invalid numbers at low cost relative to the density.

torch's own check writes and reads a boolean array for each parameter. For very many numbers the minimum and maximum
give the same answer in a tenth of the time. Values passed to methods are checked by their shapes only.
"""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.models import blocks


def normal(loc: Tensor, scale: Tensor) -> dist.Normal:
    """Normal(loc, scale), as ``dist.Normal`` is and with its ``ValueError`` for parameters that are not allowed."""
    if Distribution._validate_args and _many(loc) and _many(scale) and loc.dtype == scale.dtype:
        (low, high), least = torch.aminmax(loc.detach()), torch.aminmax(scale.detach())[0]
        if bool((low > -torch.inf) & (high < torch.inf) & (least > 0)):  # nan stays nan, and is not above
            return dist.Normal(loc, scale, validate_args=False)
    return dist.Normal(loc, scale)


def has_largest(logits: Tensor) -> bool:
    """Whether every row of logits (..., K) has a finite largest one and no nan."""
    logits = logits.detach()
    if _many(logits):
        low, high = torch.aminmax(logits)
        if bool((low > -torch.inf) & (high < torch.inf)):
            return True
    return bool(torch._is_all_true(logits.amax(-1).isfinite()))


def numbers(name: str, value: Any, like: Tensor) -> Tensor:
    """A number, list, array or tensor in the dtype and on the device of ``like``; ``ValueError`` for other things."""
    try:
        found = torch.as_tensor(value)
        if found.is_complex():
            raise ValueError
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"expected {name} as numbers, got {value!r}") from None


def point(value: Any, batch: torch.Size, event: torch.Size, like: Tensor) -> Tensor:
    """A value of the target, which broadcasts with batch + event shape; ``ValueError`` otherwise."""
    found = value if isinstance(value, Tensor) and value.is_floating_point() else numbers("value", value, like)
    shape = batch + event
    if not broadcast(found.shape, shape) or found.shape[found.ndim - len(event) :] != event:
        raise ValueError(f"expected a value that broadcasts with shape {tuple(shape)}, got {tuple(found.shape)}")
    return found


def broadcast(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether these shapes go together."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _many(tensor: Tensor) -> bool:
    return tensor.numel() >= blocks.FEWEST and blocks.plain(tensor)
