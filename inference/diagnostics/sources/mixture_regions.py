"""Quantiles and regions of highest density of very many mixtures."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.inference.diagnostics.sources.rows import by_rows
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.moments import is_circular

FEW = 512
"""Of more components every eighth is solved for first, which is where the rest begin."""
SMALLEST = 1e-6  # tail probability: 1 - 1e-6 has ten good digits
STEPS = 200
CACHED = 2**16  # normals that are evaluated at once: two threads have work, and it stays in the cache
CLOSE = 3e-4  # of the narrowest component's scale: the error after a step of that length is about its cube


def quantiles(mixture: Mixture, probabilities: Tensor) -> Tensor:
    """(Q, N) of a mixture of batch shape (N,) in float64, good to 1e-9 of the widest scale.

    As `Mixture.icdf`, which is good to the last digit; faster, because rows that are done are put aside, and because
    a step is Halley's, of third order. For normal components, and tails above 1e-6; else it is `Mixture.icdf`.
    """
    components = mixture.component_distribution
    tail = torch.minimum(probabilities, 1 - probabilities).min()
    if type(components).__name__ != "Normal" or not isinstance(components, Normal) or tail < SMALLEST:
        return mixture.icdf(probabilities[:, None])
    weight = mixture.log_weights.exp()
    shape = weight.shape
    return _solve(weight, components.loc.expand(shape), components.scale.expand(shape), probabilities)


def highest_density(mixture: Mixture, y: Tensor, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length of the region, distance of y (N,) from it (0 inside), and number of its intervals: each (N,)."""

    def one(part: Mixture, rows: slice) -> Tensor:
        region, at = part.hdr(level), y[rows].unsqueeze(-1)
        away = torch.maximum(region.lower - at, at - region.upper).clamp_min(0)
        # Intervals that are not there are nan, and so is the distance of a y that is not known.
        away = away.masked_fill(region.lower.isnan(), math.inf).amin(-1)
        return torch.stack([region.length, away, region.count.double()])

    length, distance, count = by_rows(mixture, one)
    return length, distance, count


def require_line(mixture: Mixture) -> None:
    """``ValueError`` for angles, whose regions have no lower and upper end."""
    if is_circular(mixture.component_distribution):
        raise ValueError("expected a target on a line, got angles, whose regions have no lower and upper end")


def _solve(weight: Tensor, loc: Tensor, scale: Tensor, probability: Tensor) -> Tensor:
    """Halley's steps inside a bracket; a step that leaves it, or shortens it by too little, is a bisection."""
    count, (rows, components) = len(probability), loc.shape
    standard = torch.special.ndtri(probability)[:, None]
    # No quantile of a component is beyond these, nor is one of the mixture.
    away, there = standard * torch.where(standard < 0, 1.0, -1.0) * scale.amax(-1), weight > 0
    low = loc.masked_fill(~there, math.inf).amin(-1) + away
    high = loc.masked_fill(~there, -math.inf).amax(-1) - away
    if components > FEW:
        some = weight[:, ::8]
        x = _solve(some / some.sum(-1, keepdim=True), loc[:, ::8], scale[:, ::8], probability)
    else:
        mean = (weight * loc).sum(-1)
        x = mean + standard * (weight * (scale**2 + (loc - mean[:, None]) ** 2)).sum(-1).sqrt()
    x, low, high = (values.flatten() for values in (torch.clamp(x, low, high), low, high))
    target = probability.repeat_interleave(rows)
    sharp = math.sqrt(0.5) / scale
    parts = weight, loc, sharp, weight * sharp / math.sqrt(math.pi)
    close = CLOSE * scale.masked_fill(~there, math.inf).amin(-1)
    left = torch.arange(count * rows)
    for step in range(STEPS):
        row = left % rows
        at, below, above = x[left], low[left], high[left]
        width = above - below
        excess, density, slope = _values(at, row, *parts)
        excess = excess - target[left]
        below, above = torch.where(excess < 0, at, below), torch.where(excess < 0, above, at)
        following = at - 2 * excess * density / (2 * density**2 - excess * slope)
        inside = (following >= below) & (following <= above)
        done = inside & ((following - at).abs() <= close[row]) | (above - below <= 1e-13 * at.abs())
        if step % 4 == 3:
            inside &= done | (above - below <= 0.5 * width)
        x[left] = torch.where(inside, following, 0.5 * (below + above))
        low[left], high[left] = below, above
        left = left[~done]
        if not len(left):
            break
    return x.reshape(count, rows)


def _values(
    x: Tensor, row: Tensor, weight: Tensor, loc: Tensor, sharp: Tensor, height: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distribution function, density and its slope at x (A,) of the normals (rows, K) of each ``row`` (A,).

    ``sharp`` is 1/(sqrt(2) scale), ``height`` the density of each component at its middle, times its weight.
    """
    found = []
    step = max(1, CACHED // loc.shape[-1])
    for part in (slice(start, start + step) for start in range(0, len(x), step)):
        own = row[part]
        z = x[part, None].sub(loc[own])
        steep = sharp[own]
        z *= steep
        mass = torch.linalg.vecdot(weight[own], torch.erf(z))
        density = torch.exp(-(z * z)).mul_(height[own])
        found.append(torch.stack([0.5 + 0.5 * mass, density.sum(-1), -2 * torch.linalg.vecdot(density, z.mul_(steep))]))
    total, density, slope = torch.cat(found, -1)
    return total, density, slope
