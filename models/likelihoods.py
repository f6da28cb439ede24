"""Likelihoods: functions from a network's features to the conditional distribution of y.

A likelihood is called with features of shape (..., ``features``) and returns a distribution of batch shape (...),
never a tuple of tensors. `gaussian` and `student_t` have one noise for all x, which the model gives them (as a
sample site, a parameter or a number); `heteroscedastic_gaussian` reads the noise off the network, where it may
depend on x; `posterity.models.mixture_head` allows several answers.
"""

import math
from functools import partial

import pyro.distributions as dist
import torch
from torch import Tensor

from posterity.models import blocks
from posterity.validation import check_number, is_positive

# Beyond this the square of a scale would overflow float32, and the loss would be nan.
MAX_LOG_SCALE = 30.0


def gaussian(features: Tensor, noise: Tensor | float) -> dist.Normal:
    """Normal(features[..., 0], noise): one noise for all x.

    ``features`` (..., 1); ``noise`` is a standard deviation in the units of y, broadcast to (...).
    Raises ``ValueError`` for features of another width.

    >>> gaussian(torch.zeros(4, 1), 0.5).scale
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    return dist.Normal(_columns(features, 1)[0], _like("noise", noise, features))


def heteroscedastic_gaussian(features: Tensor, *, floor: float = 1e-3) -> dist.Normal:
    """Normal with mean features[..., 0] and standard deviation sqrt(floor² + exp(2 features[..., 1])).

    ``features`` (..., 2). ``floor`` is the resolution at which y is known, in the units of y as the model sees it;
    the standard deviation never falls below it (Nix & Weigend 1994 for the network, without a floor).
    Raises ``ValueError`` for features of another width or a floor that is not positive.
    """
    mean, log_scale = _columns(features, 2)
    return dist.Normal(mean, floored_scale(log_scale, floor))


def student_t(features: Tensor, scale: Tensor | float, df: Tensor | float = 4.0) -> dist.StudentT:
    """Student's t with location features[..., 0], one scale and ``df`` degrees of freedom: robust to outliers.

    ``features`` (..., 1); ``scale`` in the units of y. The variance is infinite for df <= 2.
    Raises ``ValueError`` for features of another width.
    """
    location = _columns(features, 1)[0]
    return dist.StudentT(_like("df", df, features), location, _like("scale", scale, features))


def floored_scale(log_scale: Tensor, floor: float, ceiling: float | None = None) -> Tensor:
    """sqrt(floor² + exp(2 log_scale)); its gradient is finite for any ``log_scale``.

    With a ``ceiling`` c, exp(2 log_scale) becomes 1/(exp(-2 log_scale) + 1/c²): never above c², the same far below.
    """
    check_number("floor", floor, "(0, inf)")
    # Of a floor whose square is nothing in this dtype, the root of nothing would have no gradient.
    least = max(floor**2, torch.finfo(log_scale.dtype).tiny)
    if ceiling is None:
        return blocks.pointwise(log_scale, partial(_floored, least=least), _slope_of_floored)
    slope = partial(_slope_of_bounded, ceiling=ceiling)
    return blocks.pointwise(log_scale, partial(_bounded, least=least, ceiling=ceiling), slope)


def _floored(log_scale: Tensor, least: float) -> Tensor:
    return (torch.exp(2 * log_scale.clamp(max=MAX_LOG_SCALE)) + least).sqrt()


def _slope_of_floored(log_scale: Tensor, scale: Tensor) -> Tensor:
    return torch.exp(2 * log_scale.clamp(max=MAX_LOG_SCALE)) / scale * (log_scale <= MAX_LOG_SCALE)


def _bounded(log_scale: Tensor, least: float, ceiling: float) -> Tensor:
    return (least + ceiling**2 * torch.sigmoid(2 * (log_scale - math.log(ceiling)))).sqrt()


def _slope_of_bounded(log_scale: Tensor, scale: Tensor, ceiling: float) -> Tensor:
    above = 2 * (log_scale - math.log(ceiling))
    return ceiling**2 * torch.sigmoid(above) * torch.sigmoid(-above) / scale


def _like(name: str, value: Tensor | float, features: Tensor) -> Tensor:
    if not isinstance(value, Tensor) and not is_positive(value):
        raise ValueError(f"expected {name} to be a tensor or a number above 0, got {value!r}")
    found = torch.as_tensor(value, dtype=features.dtype, device=features.device)
    try:
        torch.broadcast_shapes(found.shape, features.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"expected {name} that broadcasts to shape {tuple(features.shape[:-1])}, got {tuple(found.shape)}"
        ) from None
    return found


def _columns(features: Tensor, expected: int) -> tuple[Tensor, ...]:
    if not isinstance(features, Tensor) or features.ndim == 0 or features.shape[-1] != expected:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"expected features of shape (..., {expected}), got {found}")
    if not features.is_floating_point():
        raise ValueError(f"expected features of floating point, got {features.dtype}")
    return features.unbind(-1)
