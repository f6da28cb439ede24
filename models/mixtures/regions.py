"""Highest-density regions: the smallest set of a given probability (Hyndman 1996, The American Statistician 50).

The region of a multimodal mixture is a union of intervals, without the gaps that an interval between two quantiles
would include.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.models.mixtures import nodes
from posterity.models.mixtures.density import interval_probability
from posterity.models.mixtures.modes import extrema
from posterity.models.mixtures.protocol import MixtureLike
from posterity.validation import check_number

DENSE = 512  # nodes of a mixture from which its density is nearly linear between them
BISECTIONS = 50
CORRECTIONS = 40
TOLERANCE = 1e-9  # error of the probability inside a region
CLOSE = 1e-13  # distance of the log density from the cut, or relative error of an end


@dataclass(frozen=True)
class Regions:
    """Unions of intervals in ascending order; a row with fewer intervals than others ends with NaN.

    Attributes:
        lower, upper: (..., M), the ends of each interval; with counts both ends belong to the interval. The region of
            an angle is cut at pi.
        level: the probability that was requested.
        probability: (...), the probability inside, from the mixture's distribution function. It exceeds the level with
            counts, and differs from it in regions of a recalibrated predictive.
        log_density: (...), the log density on the border: higher at every point inside, lower outside.
    """

    lower: Tensor
    upper: Tensor
    level: float
    probability: Tensor
    log_density: Tensor

    def contains(self, value: Tensor) -> Tensor:
        """Whether ``value``, which broadcasts to (...), is inside."""
        point = value.unsqueeze(-1)
        return ((point >= self.lower) & (point <= self.upper)).any(-1)

    @property
    def count(self) -> Tensor:
        """The number of intervals, shape (...)."""
        return self.lower.isfinite().sum(-1)

    @property
    def length(self) -> Tensor:
        """The total length of the intervals, in units of y, shape (...)."""
        return (self.upper - self.lower).nansum(-1)


def find_regions(mixture: MixtureLike, level: float) -> Regions:
    """See `Mixture.hdr`."""
    check_number("level", level, "(0, 1)")
    if not mixture.batch_shape.numel():
        none = mixture.log_weights.new_empty(mixture.batch_shape)
        return Regions(none.unsqueeze(-1), none.unsqueeze(-1), level, none, none)
    region = _count_region if nodes.is_discrete(mixture) else _density_region
    with torch.no_grad():
        parts = [region(part, level) for part in nodes.flat_chunks(mixture)]
    most = max(part[0].shape[1] for part in parts)
    like, batch = mixture.log_weights, mixture.batch_shape

    def ends(number: int) -> Tensor:
        padded = [torch.nn.functional.pad(p[number], (0, most - p[number].shape[1]), value=math.nan) for p in parts]
        return torch.cat(padded).reshape(*batch, most).to(like)

    def single(number: int) -> Tensor:
        return torch.cat([part[number] for part in parts]).reshape(batch).to(like)

    return Regions(ends(0), ends(1), level, single(2), single(3))


def level_at(mixture: MixtureLike, value: Tensor) -> Tensor:
    """See `Mixture.hdr_level`."""
    like, batch = mixture.log_weights, mixture.batch_shape
    if value.shape != batch:
        raise ValueError(f"expected value of shape {tuple(batch)}, one for each mixture, got {tuple(value.shape)}")
    levels, done, flat = [], 0, value.detach().reshape(-1).double()
    with torch.no_grad():
        for part in nodes.flat_chunks(mixture):
            own = flat[done : done + part.batch_shape[0]]
            done += len(own)
            cut = nodes.log_mass_or_density(part, own)
            if nodes.is_discrete(part):
                height = nodes.log_mass_or_density(part, nodes.sorted_nodes(part))
                levels.append(torch.where(height >= cut, height.exp(), 0.0).sum(0))
            else:
                levels.append(_intervals(part, *_nodes(part), cut)[2])
    return torch.cat(levels).reshape(batch).to(like) if levels else like.new_empty(batch)


def _density_region(mixture: MixtureLike, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ends (N, M), probability and log density (N,) on the border of the regions of continuous mixtures."""
    x, height = _nodes(mixture)
    share = _shares(mixture, x, height)
    low, high = height.masked_fill(~height.isfinite(), math.inf).amin(0), height.amax(0)
    cut = _interpolated_cut(height, share, level, low, high)

    def guess(aim: Tensor, rows: Tensor) -> Tensor:
        return _interpolated_cut(height[:, rows], share[:, rows], aim, low[rows], high[rows])

    cut = _exact_cut(mixture, x, height, level, cut, guess)
    lower, upper, mass = _intervals(mixture, x, height, cut)
    return lower.mT, upper.mT, mass, cut


def _exact_cut(
    mixture: MixtureLike,
    x: Tensor,
    height: Tensor,
    level: float,
    cut: Tensor,
    guess: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The log density (N,) at which the exact probability inside equals the level, from an interpolated ``cut``.

    By the Illinois method, on the rows that have not converged. ``guess(aim, rows)`` interpolates between the nodes:
    with an aim beyond the level by more than the error, it mostly brackets the solution.
    """
    rows, result, part = torch.arange(len(cut), device=cut.device), cut.clone(), mixture
    below, above = torch.full_like(cut, -math.inf), torch.full_like(cut, math.inf)
    much, little = torch.full_like(cut, 1 - level), torch.full_like(cut, -level)  # probability at these minus the level
    side, aim = torch.zeros_like(cut), torch.full_like(cut, level)
    for number in range(CORRECTIONS):
        miss = _intervals(part, x[:, rows], height[:, rows], cut)[2] - level
        result[rows] = cut
        left = (miss.abs() > TOLERANCE).nonzero()[:, 0]
        if not len(left):
            break
        small = miss < 0  # the cut is too high
        much = torch.where(small, torch.where(side == 1, much / 2, much), miss)
        little = torch.where(small, miss, torch.where(side == -1, little / 2, little))
        below, above = torch.where(small, below, cut), torch.where(small, cut, above)
        side, aim = torch.where(small, 1.0, -1.0), (aim - 1.5 * miss).clamp(0, 1)
        state = (rows, cut, below, above, much, little, side, aim, small)
        rows, cut, below, above, much, little, side, aim, small = (t[left] for t in state)
        part = mixture[rows]
        share = (much / (much - little)).clamp(0.01, 0.99) if number % 6 < 5 else torch.full_like(cut, 0.5)
        inside = below + share * (above - below)
        away = guess(aim, rows) if number < 3 else cut + torch.where(small, -1.0, 1.0) * 2.0 ** (number - 6)
        cut = torch.where(inside.isfinite(), inside, away)
    return result


def _nodes(mixture: MixtureLike) -> tuple[Tensor, Tensor]:
    """Nodes (G, N) and the log density at them, which is monotone between neighbouring nodes."""
    ends = extrema(mixture)
    more = torch.cat([ends.modes.masked_fill(~ends.there, math.inf), ends.minima])
    x, order = torch.cat([ends.x, more]).sort(0)
    height = torch.cat([ends.height, nodes.log_mass_or_density(mixture, more)]).gather(0, order)
    end = int(x.isfinite().sum(0).max())
    return x[:end], height[:end]


def _shares(mixture: MixtureLike, x: Tensor, height: Tensor) -> Tensor:
    """The probability between neighbouring nodes, (G - 1, N).

    With many nodes by the trapezoidal rule: it only decides where the search for the cut starts.
    """
    right = torch.where(x[1:].isfinite(), x[1:], x[:-1])
    if len(x) < DENSE:
        return interval_probability(mixture, x[:-1], right)
    return 0.5 * (right - x[:-1]).nan_to_num(0.0) * (height[1:].exp() + height[:-1].exp())


def _interpolated_cut(height: Tensor, share: Tensor, level: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The log density above which the cells sum to the level; a divided cell counts in proportion."""
    top, bottom = torch.maximum(height[:-1], height[1:]), torch.minimum(height[:-1], height[1:])
    for _ in range(BISECTIONS):
        cut = 0.5 * (low + high)
        part = ((top - cut) / (top - bottom).clamp_min(1e-300)).clamp(0, 1)
        part = torch.where(bottom >= cut, 1.0, torch.where(top > cut, part, 0.0)).nan_to_num(0.0)
        much = (part * share).sum(0) > level
        low, high = torch.where(much, cut, low), torch.where(much, high, cut)
    return 0.5 * (low + high)


def _intervals(mixture: MixtureLike, x: Tensor, height: Tensor, cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ends (M, N) of the intervals in which the log density exceeds the cut, and the probability inside (N,)."""
    inside = height >= cut
    out = torch.zeros_like(inside[:1])
    before, after = torch.cat([out, inside[:-1]]), torch.cat([inside[1:], out])
    starts, there = nodes.positions(inside & ~before)
    stops, _ = nodes.positions(inside & ~after)
    first, last = x.gather(0, starts), x.gather(0, stops)
    outer_left, outer_right = x.gather(0, (starts - 1).clamp_min(0)), x.gather(0, (stops + 1).clamp(max=len(x) - 1))
    outer_right = torch.where(outer_right.isfinite(), outer_right, last)
    lower, upper = _crossing(mixture, outer_left, first, cut), _crossing(mixture, outer_right, last, cut)
    mass = torch.where(there, interval_probability(mixture, lower, upper), 0.0).sum(0)
    return torch.where(there, lower, math.nan), torch.where(there, upper, math.nan), mass


def _crossing(mixture: MixtureLike, outside: Tensor, inside: Tensor, cut: Tensor) -> Tensor:
    """The point between ``outside`` and ``inside`` at which the log density equals the cut, on its inner side.

    By the Illinois method (Dowell & Jarratt 1971, BIT 11): secant steps, with half the function value at an end that
    is retained twice; every fourth step, and where the density outside is zero, is a bisection.
    """
    without, within = (nodes.log_mass_or_density(mixture, v) - cut for v in (outside, inside))
    side = inside.new_zeros(inside.shape)  # the side of the last point: 1 inside, -1 outside
    for number in range(BISECTIONS):
        part = (without / (without - within)).clamp(1e-3, 1 - 1e-3)
        middle = outside + torch.where(part.isfinite(), part, 0.5) * (inside - outside)
        if number % 4 == 3:
            middle = 0.5 * (outside + inside)
        height = nodes.log_mass_or_density(mixture, middle) - cut
        above = height >= 0
        without = torch.where(above, torch.where(side == 1, without / 2, without), height)
        within = torch.where(above, height, torch.where(side == -1, within / 2, within))
        outside, inside = torch.where(above, outside, middle), torch.where(above, middle, inside)
        side = torch.where(above, 1.0, -1.0)
        narrow = (inside - outside).abs() <= CLOSE * inside.abs()
        if bool((narrow | (height.abs() <= CLOSE) & above | ~inside.isfinite()).all()):
            break
    return inside


def _count_region(mixture: MixtureLike, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_density_region`, for counts: the most probable counts whose probabilities reach the level."""
    x = nodes.sorted_nodes(mixture)
    height = nodes.log_mass_or_density(mixture, x)
    ordered = height.sort(0, descending=True)
    total = ordered.values.exp().cumsum(0)
    last = (total < level).sum(0, keepdim=True).clamp(max=len(x) - 1)
    cut, reached = ordered.values.gather(0, last)[0], total.gather(0, last)[0]
    rank = torch.empty_like(ordered.indices).scatter_(
        0, ordered.indices, torch.arange(len(x), device=x.device)[:, None].expand_as(x)
    )
    inside = rank <= last
    out = torch.zeros_like(inside[:1])
    starts, there = nodes.positions(inside & ~torch.cat([out, inside[:-1]]))
    stops, _ = nodes.positions(inside & ~torch.cat([inside[1:], out]))
    ends = (torch.where(there, x.gather(0, index), math.nan).mT for index in (starts, stops))
    return (*ends, reached, cut)  # type: ignore[return-value]
