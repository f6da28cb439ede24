"""Quantiles of mixtures of many normals by Halley's method, which converges with third order.

Quantiles that have converged leave the computation, and points are evaluated in chunks that fit into the cache.
"""

import math

import torch
from torch import Tensor

FEW = 512
"""With more components, the quantiles of every eighth component are solved first, as the starting points."""
STEPS = 200
CHUNK = 2**16  # normals in a chunk: enough work for two threads, and it fits into the cache
CLOSE = 3e-4  # in scales of the narrowest component: the error after a step of this length is about its cube


def normal_mixture_quantiles(weight: Tensor, loc: Tensor, scale: Tensor, probability: Tensor) -> Tensor:
    """Quantiles (Q, N) at ``probability`` (Q, N) of mixtures with parameters (N, K) in float64.

    Halley steps inside a bracket; a step that leaves the bracket, or shortens it by too little, is replaced by a
    bisection. The error is about 1e-16 divided by the probability of the smaller tail, in units of the scale.
    """
    count, (rows, components) = len(probability), loc.shape
    standard = torch.special.ndtri(probability)
    # No quantile of a component lies beyond these bounds, so no quantile of the mixture does.
    away, there = standard * torch.where(standard < 0, 1.0, -1.0) * scale.amax(-1), weight > 0
    low = loc.masked_fill(~there, math.inf).amin(-1) + away
    high = loc.masked_fill(~there, -math.inf).amax(-1) - away
    if components > FEW:
        some = weight[:, ::8]
        x = normal_mixture_quantiles(some / some.sum(-1, keepdim=True), loc[:, ::8], scale[:, ::8], probability)
    else:
        mean = (weight * loc).sum(-1)
        x = mean + standard * (weight * (scale**2 + (loc - mean[:, None]) ** 2)).sum(-1).sqrt()
    x, low, high = (values.flatten() for values in (torch.clamp(x, low, high), low, high))
    target = probability.flatten()
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
    """Distribution function, density and its derivative at x (A,), for the mixture in ``row`` (A,) of (rows, K).

    ``sharp`` is 1/(sqrt(2) scale), ``height`` the density of each component at its centre times its weight.
    """
    parts = []
    step = max(1, CHUNK // loc.shape[-1])
    for part in (slice(start, start + step) for start in range(0, len(x), step)):
        own = row[part]
        z = x[part, None].sub(loc[own])
        steep = sharp[own]
        z *= steep
        mass = torch.linalg.vecdot(weight[own], torch.erf(z))
        density = torch.exp(-(z * z)).mul_(height[own])
        parts.append(torch.stack([0.5 + 0.5 * mass, density.sum(-1), -2 * torch.linalg.vecdot(density, z.mul_(steep))]))
    total, density, slope = torch.cat(parts, -1)
    return total, density, slope
