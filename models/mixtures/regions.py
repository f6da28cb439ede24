"""Highest-density regions: the smallest set that holds a given probability (Hyndman 1996).

Of a mixture it is a union of intervals, one for each answer that is likely enough, where an interval between two
quantiles would hold what lies between them as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.models.mixtures import nodes
from posterity.models.mixtures.many import between
from posterity.models.mixtures.modes import extrema
from posterity.models.mixtures.protocol import MixtureLike

DENSE = 512  # points of a mixture from which its density is straight between them
BISECTIONS = 50
CORRECTIONS = 40
TOLERANCE = 1e-9  # of the probability inside
CLOSE = 1e-13  # of the log density to the cut, or of an end's relative error


@dataclass(frozen=True)
class Regions:
    """Unions of intervals, from low to high; rows with fewer than others end in nan.

    - ``lower``, ``upper`` (..., M): the ends of each interval. Of counts both belong to it. An angle's region is cut
      at pi.
    - ``level``: the level that was asked for.
    - ``probability`` (...): the probability inside, from the mixture's distribution function. It differs from the level
      where counts can only hold more, and where a recalibration knows that the mixture promises too much or too little.
    - ``log_density`` (...): every point inside has at least this, and every point outside less.
    """

    lower: Tensor
    upper: Tensor
    level: float
    probability: Tensor
    log_density: Tensor

    def contains(self, value: Tensor) -> Tensor:
        """Whether ``value``, broadcast to (...), is inside."""
        point = value.unsqueeze(-1)
        return ((point >= self.lower) & (point <= self.upper)).any(-1)

    @property
    def count(self) -> Tensor:
        """How many intervals there are, shape (...)."""
        return self.lower.isfinite().sum(-1)

    @property
    def length(self) -> Tensor:
        """Of all intervals together, in the units of y, shape (...)."""
        return (self.upper - self.lower).nansum(-1)


def highest_density(mixture: MixtureLike, level: float) -> Regions:
    """See `Mixture.hdr`."""
    if not 0 < level < 1:
        raise ValueError(f"expected a level in (0, 1), got {level}")
    if not mixture.batch_shape.numel():
        none = mixture.log_weights.new_empty(mixture.batch_shape)
        return Regions(none.unsqueeze(-1), none.unsqueeze(-1), level, none, none)
    one = _of_counts if nodes.is_discrete(mixture) else _of_density
    with torch.no_grad():
        found = [one(part, level) for part in nodes.rows(mixture)]
    most = max(part[0].shape[1] for part in found)
    like, batch = mixture.log_weights, mixture.batch_shape

    def ends(number: int) -> Tensor:
        parts = [torch.nn.functional.pad(p[number], (0, most - p[number].shape[1]), value=math.nan) for p in found]
        return torch.cat(parts).reshape(*batch, most).to(like)

    def single(number: int) -> Tensor:
        return torch.cat([part[number] for part in found]).reshape(batch).to(like)

    return Regions(ends(0), ends(1), level, single(2), single(3))


def level_at(mixture: MixtureLike, value: Tensor) -> Tensor:
    """See `Mixture.hdr_level`."""
    like, batch = mixture.log_weights, mixture.batch_shape
    if value.shape != batch:
        raise ValueError(f"expected a value for each mixture, of shape {tuple(batch)}, got {tuple(value.shape)}")
    found, done, flat = [], 0, value.detach().reshape(-1).double()
    with torch.no_grad():
        for part in nodes.rows(mixture):
            own = flat[done : done + part.batch_shape[0]]
            done += len(own)
            cut = nodes.log_density(part, own)
            if nodes.is_discrete(part):
                height = nodes.log_density(part, nodes.points(part))
                found.append(torch.where(height >= cut, height.exp(), 0.0).sum(0))
            else:
                found.append(_intervals(part, *_nodes(part), cut)[2])
    return torch.cat(found).reshape(batch).to(like) if found else like.new_empty(batch)


def _of_density(mixture: MixtureLike, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, height = _nodes(mixture)
    share = _shares(mixture, x, height)
    low, high = height.masked_fill(~height.isfinite(), math.inf).amin(0), height.amax(0)
    cut = _by_nodes(height, share, level, low, high)
    cut = _exactly(mixture, x, height, level, cut, lambda aim, rows: _by_nodes(height[:, rows], share[:, rows], aim,
                                                                            low[rows], high[rows]))  # fmt: skip
    lower, upper, mass = _intervals(mixture, x, height, cut)
    return lower.mT, upper.mT, mass, cut


def _exactly(
    mixture: MixtureLike,
    x: Tensor,
    height: Tensor,
    level: float,
    cut: Tensor,
    guess: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The cut at which the exact probability inside is the level: the nodes have only interpolated it.

    Illinois again, of the rows that are not there yet. ``guess(level, rows)`` is what the nodes say: asked for more
    than was missed, they mostly give the other side of it.
    """
    rows, result, part = torch.arange(len(cut), device=cut.device), cut.clone(), mixture
    below, above = torch.full_like(cut, -math.inf), torch.full_like(cut, math.inf)
    much, little = torch.full_like(cut, 1 - level), torch.full_like(cut, -level)  # inside at these, but for the level
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
    """Points (G, N), the log density at them, which rises or falls all the way from one to the next."""
    found = extrema(mixture)
    more = torch.cat([found.modes.masked_fill(~found.there, math.inf), found.minima])
    x, order = torch.cat([found.x, more]).sort(0)
    height = torch.cat([found.height, nodes.log_density(mixture, more)]).gather(0, order)
    end = int(x.isfinite().sum(0).max())
    return x[:end], height[:end]


def _shares(mixture: MixtureLike, x: Tensor, height: Tensor) -> Tensor:
    """The probability between neighbouring points, (G - 1, N).

    Of very many points by the trapezoidal rule: it only says where the search for the cut begins.
    """
    right = torch.where(x[1:].isfinite(), x[1:], x[:-1])
    if len(x) < DENSE:
        return between(mixture, x[:-1], right)
    return 0.5 * (right - x[:-1]).nan_to_num(0.0) * (height[1:].exp() + height[:-1].exp())


def _by_nodes(height: Tensor, share: Tensor, level: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The cut at which the cells above it hold the level, a cell that it divides in proportion."""
    top, bottom = torch.maximum(height[:-1], height[1:]), torch.minimum(height[:-1], height[1:])
    for _ in range(BISECTIONS):
        cut = 0.5 * (low + high)
        part = ((top - cut) / (top - bottom).clamp_min(1e-300)).clamp(0, 1)
        part = torch.where(bottom >= cut, 1.0, torch.where(top > cut, part, 0.0)).nan_to_num(0.0)
        much = (part * share).sum(0) > level
        low, high = torch.where(much, cut, low), torch.where(much, high, cut)
    return 0.5 * (low + high)


def _intervals(mixture: MixtureLike, x: Tensor, height: Tensor, cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the density is above the cut: ends (M, N), and the probability inside (N,)."""
    inside = height >= cut
    out = torch.zeros_like(inside[:1])
    before, after = torch.cat([out, inside[:-1]]), torch.cat([inside[1:], out])
    starts, there = nodes.positions(inside & ~before)
    stops, _ = nodes.positions(inside & ~after)
    first, last = x.gather(0, starts), x.gather(0, stops)
    outer_left, outer_right = x.gather(0, (starts - 1).clamp_min(0)), x.gather(0, (stops + 1).clamp(max=len(x) - 1))
    outer_right = torch.where(outer_right.isfinite(), outer_right, last)
    lower, upper = _crossing(mixture, outer_left, first, cut), _crossing(mixture, outer_right, last, cut)
    mass = torch.where(there, between(mixture, lower, upper), 0.0).sum(0)
    return torch.where(there, lower, math.nan), torch.where(there, upper, math.nan), mass


def _crossing(mixture: MixtureLike, outside: Tensor, inside: Tensor, cut: Tensor) -> Tensor:
    """Where the density falls to the cut, between a point outside and one inside, on the inner side of it.

    The Illinois method (Dowell & Jarratt 1971, BIT 11): secants, of which an end that stays counts half; a bisection
    now and then, and where the density outside is zero.
    """
    without, within = (nodes.log_density(mixture, v) - cut for v in (outside, inside))
    found = inside.new_zeros(inside.shape)  # which side the last point fell on: 1 inside, -1 outside
    for number in range(BISECTIONS):
        part = (without / (without - within)).clamp(1e-3, 1 - 1e-3)
        middle = outside + torch.where(part.isfinite(), part, 0.5) * (inside - outside)
        if number % 4 == 3:
            middle = 0.5 * (outside + inside)
        height = nodes.log_density(mixture, middle) - cut
        above = height >= 0
        without = torch.where(above, torch.where(found == 1, without / 2, without), height)
        within = torch.where(above, height, torch.where(found == -1, within / 2, within))
        outside, inside = torch.where(above, outside, middle), torch.where(above, middle, inside)
        found = torch.where(above, 1.0, -1.0)
        narrow = (inside - outside).abs() <= CLOSE * inside.abs()
        if bool((narrow | (height.abs() <= CLOSE) & above | ~inside.isfinite()).all()):
            break
    return inside


def _of_counts(mixture: MixtureLike, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The most probable counts, until they hold the level."""
    x = nodes.points(mixture)
    height = nodes.log_density(mixture, x)
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
