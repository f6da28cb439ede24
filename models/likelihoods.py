"""Likelihoods: functions from the features of a network to the conditional distribution of y.

A likelihood takes features of shape (..., ``features``) and returns a distribution of batch shape (...), never a tuple
of tensors. `gaussian` and `student_t` have one noise for all x, which the model passes as a sample site, a parameter
or a number; `heteroscedastic_gaussian` reads the noise from the network, so that it may depend on x. For multimodal
conditional distributions see `posterity.models.mixture_head`.
"""

import math
from functools import partial

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from posterity.models import chunks
from posterity.validation import check_floating, check_number, shown_shape

MAX_LOG_SCALE = 30.0
"""The square of a larger scale would overflow float32, and the loss would be NaN."""


def gaussian(features: Tensor, noise: Tensor | float) -> dist.Normal:
    """Normal(features[..., 0], noise): one noise for all x.

    ``features`` (..., 1); ``noise`` is a standard deviation in units of y that broadcasts to (...).

    Raises:
        ValueError: features of another width or dtype, or a noise that does not broadcast or is not above 0.

    >>> gaussian(torch.zeros(4, 1), 0.5).scale
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    return dist.Normal(_columns(features, 1)[0], _like("noise", noise, features))


def heteroscedastic_gaussian(features: Tensor, *, floor: float = 1e-3) -> dist.Normal:
    """Normal with mean features[..., 0] and standard deviation sqrt(floor² + exp(2 features[..., 1])).

    ``features`` (..., 2). ``floor`` is the resolution of y, in units of the model's y; the standard deviation is never
    below it. (Nix & Weigend 1994 for the network, without a floor.)

    Raises:
        ValueError: features of another width or dtype, or a floor that is not above 0.
    """
    mean, log_scale = _columns(features, 2)
    return dist.Normal(mean, floored_scale(log_scale, floor))


def student_t(features: Tensor, scale: Tensor | float, df: Tensor | float = 4.0) -> dist.StudentT:
    """Student's t with location features[..., 0], one scale and ``df`` degrees of freedom: robust to outliers.

    ``features`` (..., 1); ``scale`` in units of y. The variance is infinite for df <= 2.

    Raises:
        ValueError: features of another width or dtype, or a scale or df that does not broadcast or is not above 0.
    """
    location = _columns(features, 1)[0]
    return dist.StudentT(_like("df", df, features), location, _like("scale", scale, features))


def floored_scale(log_scale: Tensor, floor: float, ceiling: float | None = None) -> Tensor:
    """sqrt(floor² + exp(2 log_scale)), with a finite gradient for any ``log_scale``.

    With a ``ceiling`` c, exp(2 log_scale) is replaced by 1/(exp(-2 log_scale) + 1/c²), which is at most c² and nearly
    equal far below c².
    """
    check_number("floor", floor, "(0, inf)")
    # The square of a tiny floor underflows, and a square root has no gradient at 0.
    least = max(floor**2, torch.finfo(log_scale.dtype).tiny)
    if ceiling is None:
        return chunks.elementwise(log_scale, partial(_floored, least=least), _floored_derivative)
    derivative = partial(_bounded_derivative, ceiling=ceiling)
    return chunks.elementwise(log_scale, partial(_bounded, least=least, ceiling=ceiling), derivative)


def _floored(log_scale: Tensor, least: float) -> Tensor:
    return (torch.exp(2 * log_scale.clamp(max=MAX_LOG_SCALE)) + least).sqrt()


def _floored_derivative(log_scale: Tensor, scale: Tensor) -> Tensor:
    return torch.exp(2 * log_scale.clamp(max=MAX_LOG_SCALE)) / scale * (log_scale <= MAX_LOG_SCALE)


def _bounded(log_scale: Tensor, least: float, ceiling: float) -> Tensor:
    return (least + ceiling**2 * torch.sigmoid(2 * (log_scale - math.log(ceiling)))).sqrt()


def _bounded_derivative(log_scale: Tensor, scale: Tensor, ceiling: float) -> Tensor:
    above = 2 * (log_scale - math.log(ceiling))
    return ceiling**2 * torch.sigmoid(above) * torch.sigmoid(-above) / scale


def _like(name: str, value: Tensor | float, features: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        check_number(name, value, "(0, inf)")
    tensor = torch.as_tensor(value, dtype=features.dtype, device=features.device)
    try:
        np.broadcast_shapes(tensor.shape, features.shape[:-1])
    except ValueError:
        raise ValueError(
            f"expected {name} to broadcast to shape {tuple(features.shape[:-1])}, got shape {tuple(tensor.shape)}"
        ) from None
    return tensor


def _columns(features: Tensor, expected: int) -> tuple[Tensor, ...]:
    if not isinstance(features, Tensor) or features.ndim == 0 or features.shape[-1] != expected:
        raise ValueError(f"expected features of shape (..., {expected}), got {shown_shape(features)}")
    check_floating("features", features)
    return features.unbind(-1)
