"""Density and probability of mixtures of one target at many points, a block that fits into the cache at a time.

Modes and regions ask for thousands of points of every mixture. Held at once, points times components of a posterior's
draws are gigabytes; in blocks they never leave the cache. Points that are infinite cost nothing.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models.mixtures.protocol import MixtureLike

CACHED = 2**16  # numbers that are worked on at once
HELD = 2_000_000  # points times rows times components of other families that are held at once
ALONG = 32  # points of a row from which its components are not copied for each of them
LEAST = 1e-250  # a density below it is summed as logarithms
LOWEST = -690.0  # the exponential of less is not a normal number, and many times slower


def log_density(mixture: MixtureLike, value: Tensor) -> Tensor:
    """`log_prob` at points (..., N) of a mixture of batch shape (N,); minus infinity where a point is infinite."""
    if not isinstance(mixture.component_distribution, Normal):
        return _log_prob(mixture, value)
    weight, loc, scale = _parameters(mixture)
    sharp, height = math.sqrt(0.5) / scale, weight / (scale * math.sqrt(2 * math.pi))

    def density(at: Tensor, row: Tensor | slice) -> Tensor:
        z = at[:, 0, None].sub(loc[row]).mul_(sharp[row])
        return torch.threshold_(z.square_().neg_(), LOWEST, -math.inf).exp_().mul_(height[row]).sum(-1)

    found = _blocked(density, value.unsqueeze(-1), mixture.num_components)
    small = (found < LEAST) & value.isfinite()
    found = found.log()
    if bool(small.any()):
        found[small] = _log_prob(mixture[small.nonzero()[:, -1]], value[small])
    return found


def between(mixture: MixtureLike, low: Tensor, high: Tensor) -> Tensor:
    """P(low < Y <= high) for bounds (..., N) that may be infinite, from the smaller tails."""
    if not isinstance(mixture.component_distribution, Normal):
        return _from_tails(mixture, low, high)
    weight, loc, scale = _parameters(mixture)
    sharp = math.sqrt(0.5) / scale

    def mass(ends: Tensor, row: Tensor | slice) -> Tensor:
        first, second = (ends[:, end, None].sub(loc[row]).mul_(sharp[row]) for end in (0, 1))
        # Of each component; mirrored where the interval is above its middle.
        side = torch.where(first + second > 0, 1.0, -1.0)
        part = torch.erfc(side * first).sub_(torch.erfc(side * second)).mul_(side)
        return part.mul_(weight[row]).sum(-1).mul_(0.5)

    found = _blocked(mass, torch.stack(torch.broadcast_tensors(low, high), -1), mixture.num_components).clamp_min(0)
    return torch.where((low == -math.inf) & (high == math.inf), 1.0, found)


def _parameters(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    components, weight = mixture.component_distribution, mixture.log_weights.exp()
    return weight, components.loc.expand(weight.shape), components.scale.expand(weight.shape)


def _blocked(function: Callable[[Tensor, Tensor | slice], Tensor], value: Tensor, components: int) -> Tensor:
    """``function(points (A, E), rows)`` of points (..., N, E), shape (..., N); 0 where none of the E is finite.

    Rows are as many as the points, or one for all of them.
    """
    found = value.new_zeros(value.shape[:-1])
    wanted, step = value.isfinite().any(-1), max(1, CACHED // components)
    for where, row in _places(wanted):
        points = value[where]
        parts = (slice(start, start + step) for start in range(0, len(points), step))
        found[where] = torch.cat(
            [function(points[part], row[part] if isinstance(row, Tensor) else row) for part in parts]
        )
    return found


def _places(wanted: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor | slice]]:
    """Where points (..., N) are wanted, with their rows: one row at a time where it has many."""
    if wanted.numel() < ALONG * wanted.shape[-1]:
        where = wanted.nonzero(as_tuple=True)
        if len(where[0]):
            yield where, where[-1]
        return
    for row in range(wanted.shape[-1]):
        where = wanted[..., row].nonzero(as_tuple=True)
        if len(where[0]):
            yield (*where, torch.full_like(where[0], row)), slice(row, row + 1)


def _log_prob(mixture: MixtureLike, value: Tensor) -> Tensor:
    """Of any family, in blocks of points; minus infinity outside of the support."""
    there = value.isfinite()
    inside = torch.where(there, value, mixture.component_distribution.mean[..., 0].expand(value.shape))
    if value.ndim < 2:
        found = mixture.log_prob(inside)
    else:
        step = max(1, HELD // max(1, mixture.num_components * value.shape[-1]))
        found = torch.cat([mixture.log_prob(part) for part in inside.split(step)])
    return torch.where(there & ~found.isnan(), found, -math.inf)


def _from_tails(mixture: MixtureLike, low: Tensor, high: Tensor) -> Tensor:
    middle = mixture.component_distribution.mean[..., 0].expand(low.shape)
    finite = torch.where(low.isfinite(), low, middle), torch.where(high.isfinite(), high, middle)
    below = [mixture.cdf(v) for v in finite]
    above = [mixture.sf(v) for v in finite]
    for i, bound in enumerate((low, high)):
        below[i] = torch.where(bound == math.inf, 1.0, torch.where(bound == -math.inf, 0.0, below[i]))
        above[i] = torch.where(bound == math.inf, 0.0, torch.where(bound == -math.inf, 1.0, above[i]))
    return torch.where(above[0] < below[1], above[0] - above[1], below[1] - below[0]).clamp_min(0)
