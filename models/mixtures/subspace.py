"""Marginal and conditional components of mixtures of normals with several targets.

Both are computed from the Cholesky factor of each component by a QR decomposition. The covariance matrix is avoided:
its condition number is the square of the factor's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from posterity.models.mixtures.arguments import as_tensor_like

Targets = int | Sequence[int]


def is_diagonal(components: Any) -> bool:
    """Whether the components are independent normals of several targets."""
    return (
        isinstance(components, Independent)
        and isinstance(components.base_dist, Normal)
        and components.reinterpreted_batch_ndims == 1
    )


def scale_tril(components: Any) -> Tensor:
    """The Cholesky factor of the covariance of each component, shape (..., K, D, D).

    Raises:
        ValueError: the components are not normals of several targets.
    """
    if is_diagonal(components):
        return torch.diag_embed(components.base_dist.scale.expand(components.batch_shape + components.event_shape))
    if isinstance(components, MultivariateNormal | LowRankMultivariateNormal):
        return components.scale_tril
    raise ValueError(
        "expected normal components of several targets (MultivariateNormal, LowRankMultivariateNormal, or Normal "
        f"with to_event(1)), got {type(components).__name__} of event shape {tuple(components.event_shape)}"
    )


def marginal(components: Any, targets: Targets) -> Distribution:
    """The components of some targets, in the given order; with an ``int`` the event is a scalar."""
    chosen = _indices(targets, components.event_shape)
    loc = components.mean[..., chosen]
    if is_diagonal(components):
        return _diagonal(loc, components.base_dist.scale[..., chosen], targets)
    factor = _triangular(scale_tril(components)[..., chosen, :])
    if isinstance(targets, int):
        return dist.Normal(loc[..., 0], factor[..., 0, 0])
    return dist.MultivariateNormal(loc, scale_tril=factor)


def condition(components: Any, targets: Targets, value: Tensor) -> tuple[Tensor, Distribution]:
    """log p_k(Y_targets = value), shape (..., K), and the components of the other targets given ``value``.

    ``value`` is (...) for an ``int``, (..., number of targets) for several targets. The other targets keep their
    order; a single one has a scalar event.

    Raises:
        ValueError: targets that do not exist, are repeated or leave no others, or a value of another shape.
    """
    given = _indices(targets, components.event_shape)
    rest = [d for d in range(components.event_shape[0]) if d not in given]
    if not rest:
        raise ValueError(f"expected targets to leave at least one other, got all {components.event_shape[0]}")
    batch = components.batch_shape[:-1]
    shape = batch if isinstance(targets, int) else (*batch, len(given))
    value = as_tensor_like("value", value, components.mean)
    fits = isinstance(targets, int) or value.shape[-1:] == (len(given),)
    try:
        value = value.expand(np.broadcast_shapes(value.shape, shape))
    except (RuntimeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"expected value of shape {tuple(shape)}, got {tuple(value.shape)}")
    value = value.unsqueeze(-1) if isinstance(targets, int) else value
    away = value.unsqueeze(-2) - components.mean[..., given]  # (..., K, given)
    others = rest[0] if len(rest) == 1 else rest
    if is_diagonal(components):
        scale = components.base_dist.scale.expand(components.mean.shape)
        evidence = Normal(torch.zeros_like(away), scale[..., given]).log_prob(away).sum(-1)
        loc = components.mean[..., rest].expand(*evidence.shape, len(rest))
        return evidence, _diagonal(loc, scale[..., rest].expand(loc.shape), others)
    factor = _triangular(scale_tril(components)[..., given + rest, :])
    count = len(given)
    top, corner, bottom = factor[..., :count, :count], factor[..., count:, :count], factor[..., count:, count:]
    evidence = MultivariateNormal(torch.zeros_like(away), scale_tril=top).log_prob(away)
    standard = torch.linalg.solve_triangular(top, away.unsqueeze(-1), upper=False)
    loc = components.mean[..., rest] + (corner @ standard).squeeze(-1)
    if len(rest) == 1:
        return evidence, dist.Normal(loc[..., 0], bottom[..., 0, 0].expand(loc.shape[:-1]))
    return evidence, dist.MultivariateNormal(loc, scale_tril=bottom.expand(*loc.shape, len(rest)))


def _diagonal(loc: Tensor, scale: Tensor, targets: Targets) -> Distribution:
    if isinstance(targets, int):
        return dist.Normal(loc[..., 0], scale[..., 0])
    return dist.Independent(dist.Normal(loc, scale), 1)


def _triangular(rows: Tensor) -> Tensor:
    """The Cholesky factor of ``rows @ rows.mT``, where ``rows`` are rows of a factor in any order."""
    upper = torch.linalg.qr(rows.mT, mode="r").R
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    return (upper * sign.unsqueeze(-1)).mT.tril()


def _indices(targets: Targets, event_shape: torch.Size) -> list[int]:
    if len(event_shape) != 1:
        raise ValueError(f"expected a mixture of several targets, got event shape {tuple(event_shape)}")
    size = event_shape[0]
    if not isinstance(targets, int | list | tuple | range):
        raise ValueError(f"expected targets to be a whole number or a list of whole numbers, got {targets!r}")
    wanted = [targets] if isinstance(targets, int) else list(targets)
    if not wanted or not all(isinstance(d, int) and -size <= d < size for d in wanted):
        raise ValueError(f"expected targets from {-size} to {size - 1}, got {targets!r}")
    indices = [d % size for d in wanted]
    if len(set(indices)) != len(indices):
        raise ValueError(f"expected each target once, got {targets!r}")
    return indices
