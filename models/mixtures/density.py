"""Densities and probabilities of mixtures of one target at many points, in chunks that fit into the cache.

Modes and regions evaluate each mixture at thousands of points. All points times all components of a posterior's draws
would take gigabytes; chunks of them stay in the cache. Infinite points take no time.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models.mixtures.protocol import MixtureLike

CHUNK = 2**16  # numbers in a chunk
OTHER_CHUNK = 2_000_000  # points times rows times components in a chunk, for families other than the normal
MANY_POINTS = 32  # points of a row from which its components are not copied for each point
SMALL_DENSITY = 1e-250  # a smaller density is summed as logarithms
SMALLEST_EXPONENT = -690.0  # the exponential of a smaller number is subnormal, and many times slower


def log_density(mixture: MixtureLike, value: Tensor) -> Tensor:
    """The log density at points (..., N) of a mixture with batch shape (N,); -inf at infinite points."""
    if not isinstance(mixture.component_distribution, Normal):
        return _log_prob(mixture, value)
    weight, loc, scale = _parameters(mixture)
    sharp, height = math.sqrt(0.5) / scale, weight / (scale * math.sqrt(2 * math.pi))

    def density(at: Tensor, row: Tensor | slice) -> Tensor:
        z = at[:, 0, None].sub(loc[row]).mul_(sharp[row])
        return torch.threshold_(z.square_().neg_(), SMALLEST_EXPONENT, -math.inf).exp_().mul_(height[row]).sum(-1)

    height = _in_chunks(density, value.unsqueeze(-1), mixture.num_components)
    small = (height < SMALL_DENSITY) & value.isfinite()
    result = height.log()
    if bool(small.any()):
        result[small] = _log_prob(mixture[small.nonzero()[:, -1]], value[small])
    return result


def interval_probability(mixture: MixtureLike, low: Tensor, high: Tensor) -> Tensor:
    """P(low < Y <= high) from the smaller tails; the bounds (..., N) may be infinite."""
    if not isinstance(mixture.component_distribution, Normal):
        return _from_tails(mixture, low, high)
    weight, loc, scale = _parameters(mixture)
    sharp = math.sqrt(0.5) / scale

    def mass(ends: Tensor, row: Tensor | slice) -> Tensor:
        first, second = (ends[:, side, None].sub(loc[row]).mul_(sharp[row]) for side in (0, 1))
        # The probability within each component, mirrored if the interval is above its centre.
        sign = torch.where(first + second > 0, 1.0, -1.0)
        part = torch.erfc(sign * first).sub_(torch.erfc(sign * second)).mul_(sign)
        return part.mul_(weight[row]).sum(-1).mul_(0.5)

    ends = torch.stack(torch.broadcast_tensors(low, high), -1)
    probability = _in_chunks(mass, ends, mixture.num_components).clamp_min(0)
    return torch.where((low == -math.inf) & (high == math.inf), 1.0, probability)


def _parameters(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    components, weight = mixture.component_distribution, mixture.log_weights.exp()
    return weight, components.loc.expand(weight.shape), components.scale.expand(weight.shape)


def _in_chunks(function: Callable[[Tensor, Tensor | slice], Tensor], value: Tensor, components: int) -> Tensor:
    """``function(points (A, E), rows)`` for points (..., N, E), shape (..., N); 0 where none of the E is finite.

    ``rows`` has one row for each point, or is a slice of one row for all points.
    """
    result = value.new_zeros(value.shape[:-1])
    wanted, step = value.isfinite().any(-1), max(1, CHUNK // components)
    for where, row in _places(wanted):
        points = value[where]
        parts = (slice(start, start + step) for start in range(0, len(points), step))
        result[where] = torch.cat(
            [function(points[part], row[part] if isinstance(row, Tensor) else row) for part in parts]
        )
    return result


def _places(wanted: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor | slice]]:
    """Indices of the wanted points (..., N) with their rows; one row at a time if each has many points."""
    if wanted.numel() < MANY_POINTS * wanted.shape[-1]:
        where = wanted.nonzero(as_tuple=True)
        if len(where[0]):
            yield where, where[-1]
        return
    for row in range(wanted.shape[-1]):
        where = wanted[..., row].nonzero(as_tuple=True)
        if len(where[0]):
            yield (*where, torch.full_like(where[0], row)), slice(row, row + 1)


def _log_prob(mixture: MixtureLike, value: Tensor) -> Tensor:
    """The log density of any family, in chunks of points; -inf outside the support."""
    there = value.isfinite()
    inside = torch.where(there, value, mixture.component_distribution.mean[..., 0].expand(value.shape))
    if value.ndim < 2:
        result = mixture.log_prob(inside)
    else:
        step = max(1, OTHER_CHUNK // max(1, mixture.num_components * value.shape[-1]))
        result = torch.cat([mixture.log_prob(part) for part in inside.split(step)])
    return torch.where(there & ~result.isnan(), result, -math.inf)


def _from_tails(mixture: MixtureLike, low: Tensor, high: Tensor) -> Tensor:
    """P(low < Y <= high) from the distribution functions of any family."""
    middle = mixture.component_distribution.mean[..., 0].expand(low.shape)
    finite = torch.where(low.isfinite(), low, middle), torch.where(high.isfinite(), high, middle)
    below = [mixture.cdf(v) for v in finite]
    above = [mixture.sf(v) for v in finite]
    for i, bound in enumerate((low, high)):
        below[i] = torch.where(bound == math.inf, 1.0, torch.where(bound == -math.inf, 0.0, below[i]))
        above[i] = torch.where(bound == math.inf, 0.0, torch.where(bound == -math.inf, 1.0, above[i]))
    return torch.where(above[0] < below[1], above[0] - above[1], below[1] - below[0]).clamp_min(0)
