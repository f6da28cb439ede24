"""The local maxima of the density of a mixture: which answers it gives, and how sure it is of each.

A mixture can have fewer modes than components (they merge) and, with several targets, more (Carreira-Perpiñán 2000,
"Mode-finding for mixtures of Gaussian distributions"). Of one target all are found, from points on every component's
own scale. Of several, from the mean of every component by the fixed-point iteration of that paper's section 4.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.models.mixtures import nodes
from posterity.models.mixtures.many import between
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.protocol import MixtureLike
from posterity.models.mixtures.subspace import scale_tril

ITERATIONS = 2000
MERGED = 1e-3  # standard deviations of the narrowest component


@dataclass(frozen=True)
class Modes:
    """The modes of each mixture of a batch, the highest first; rows with fewer than others end in nan.

    - ``location`` (..., M) + event: where the density has a local maximum;
    - ``log_density`` (..., M): how high it is there;
    - ``probability`` (..., M): of one target, what lies between the minima to either side of it; of several, the
      weights of the components whose means lead to it.
    """

    location: Tensor
    log_density: Tensor
    probability: Tensor

    @property
    def count(self) -> Tensor:
        """How many there are, shape (...)."""
        return self.log_density.isfinite().sum(-1)


def find_modes(mixture: MixtureLike, least: float) -> Modes:
    """See `Mixture.modes`."""
    if not 0 <= least < 1:
        raise ValueError(f"expected a least probability in [0, 1), got {least}")
    several = len(mixture.event_shape) > 0
    if len(mixture.event_shape) > 1:
        raise ValueError(f"expected events of at most one dimension, got event shape {tuple(mixture.event_shape)}")
    if not mixture.batch_shape.numel():
        none = mixture.log_weights.new_empty(*mixture.batch_shape, 1)
        return Modes(none.reshape(*none.shape, *(1,) * several).expand(*none.shape, *mixture.event_shape), none, none)
    with torch.no_grad():
        found = [_of_several(part) if several else _of_one(part) for part in nodes.rows(mixture)]
    location, height, probability = (_joined(parts) for parts in zip(*found, strict=True))
    low = ~(probability >= least)
    height, probability = height.masked_fill(low, math.nan), probability.masked_fill(low, math.nan)
    order = torch.argsort(torch.where(low, -math.inf, height), dim=-1, descending=True, stable=True)
    height, probability = height.gather(-1, order), probability.gather(-1, order)
    index = order.reshape(*order.shape, *(1,) * len(mixture.event_shape))
    location = location.gather(1, index.expand(*order.shape, *mixture.event_shape))
    location = torch.where(height.isnan().reshape(index.shape), math.nan, location)
    most = max(1, int(height.isfinite().sum(-1).max()))
    like, batch = mixture.log_weights, mixture.batch_shape

    def shaped(values: Tensor) -> Tensor:
        return values[:, :most].reshape(*batch, most, *values.shape[2:]).to(like)

    return Modes(shaped(location), shaped(height), shaped(probability))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    most = max(part.shape[1] for part in parts)
    padded = [
        torch.cat([part, part.new_full((len(part), most - part.shape[1], *part.shape[2:]), math.nan)], 1)
        for part in parts
    ]
    return torch.cat(padded)


def _of_one(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    found = extrema(mixture)
    location, there, minima = found.modes, found.there, found.minima
    height = nodes.log_density(mixture, location.masked_fill(~there, math.inf))
    edges = torch.cat([torch.full_like(location[:1], -math.inf), minima, torch.full_like(location[:1], math.inf)])
    probability = between(mixture, edges[:-1], edges[1:])
    if is_circular(mixture.component_distribution):
        probability = _around(mixture, found, probability)
    return tuple(torch.where(there, v, math.nan).mT for v in (location, height, probability))  # type: ignore[return-value]


@dataclass(frozen=True)
class Extrema:
    """Points and their log density (G, N); modes (M, N) in ascending order, which are there, and the minima (M - 1, N)
    between neighbours.

    Points, minima and modes that are missing in a row are infinite, at its end; only missing modes may be any number.
    """

    x: Tensor
    height: Tensor
    modes: Tensor
    there: Tensor
    minima: Tensor


def extrema(mixture: MixtureLike) -> Extrema:
    """Every local maximum of the density, and the lowest point between each two."""
    x = nodes.points(mixture)
    height = nodes.log_density(mixture, x)
    low = torch.full_like(height[:1], -math.inf)
    circular = is_circular(mixture.component_distribution)
    # A circle has no end: the first point (-pi) is the last (pi) again.
    before = torch.cat([height[-2:-1] if circular else low, height[:-1]])
    after = torch.cat([height[1:], height[1:2] if circular else low])
    peak = (height >= before) & (height > after) & height.isfinite()
    if circular:
        peak[0] = False
    index, there = nodes.positions(peak)
    last = len(x) - 1
    if nodes.is_discrete(mixture):
        location = x.gather(0, index)
    else:
        left, right = x.gather(0, (index - 1).clamp_min(0)), x.gather(0, (index + 1).clamp(max=last))
        here = x.gather(0, index)
        if circular:
            right = torch.where(index == last, here + (x[1:2] - x[:1]), right)
        else:
            left, right = (torch.where(end.isfinite(), end, here) for end in (left, right))
        left, right = (end.masked_fill(~there, math.inf) for end in (left, right))
        location = nodes.refine(lambda v: nodes.log_density(mixture, v), left, right)
    return Extrema(x, height, location, there, _minima(mixture, x, height, index, there))


def _minima(mixture: MixtureLike, x: Tensor, height: Tensor, index: Tensor, there: Tensor) -> Tensor:
    """The lowest point between neighbouring modes."""
    if len(index) < 2:
        return x[:0]
    number = torch.arange(len(x), device=x.device)[:, None]
    lowest = torch.stack(
        [
            torch.where((number >= first) & (number <= second), height, math.inf).argmin(0)
            for first, second in itertools.pairwise(index)
        ]
    )
    if nodes.is_discrete(mixture):
        return x.gather(0, lowest).masked_fill(~there[1:], math.inf)
    ends = (x.gather(0, torch.minimum(torch.maximum(lowest + step, index[:-1]), index[1:])) for step in (-1, 1))
    left, right = (end.masked_fill(~there[1:], math.inf) for end in ends)
    return nodes.refine(lambda v: -nodes.log_density(mixture, v), left, right).masked_fill(~there[1:], math.inf)


def _around(mixture: MixtureLike, found: Extrema, probability: Tensor) -> Tensor:
    """Corrected for the circle, which goes on at its end: the minimum beyond the last mode is before the first."""
    x, location = found.x, found.modes
    last = found.there.sum(0, keepdim=True) - 1
    after, before = x > location.gather(0, last), x < location[:1]
    height = torch.where(after | before, found.height, math.inf)
    index, end = height.argmin(0, keepdim=True), x.isfinite().sum(0, keepdim=True) - 1
    # The first node (-pi) is the last (pi) again: the density goes on there, so the search may cross it.
    left = torch.where(index > 0, (index - 1).clamp_min(0), end - 1)
    right = torch.where(index < end, (index + 1).minimum(end), 1)
    around = 2 * math.pi
    low = x.gather(0, left) - torch.where(index > 0, 0.0, around)
    high = x.gather(0, right) + torch.where(index < end, 0.0, around)
    lowest = nodes.refine(lambda v: -nodes.log_density(mixture, v), low, high)
    lowest = math.pi - torch.remainder(math.pi - lowest, 2 * math.pi)
    endless = torch.full_like(lowest, math.inf)
    beyond = torch.where(lowest > location[:1], between(mixture, lowest, endless), 0.0)  # the last has, the first gets
    ahead = torch.where(lowest < location[:1], between(mixture, -endless, lowest), 0.0)
    probability = probability.index_add(0, torch.zeros(1, dtype=torch.long, device=x.device), beyond - ahead)
    return probability.scatter_add(0, last, ahead - beyond)


def _of_several(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    """Climbing from the mean of every component; a fixed-point step never lowers the density."""
    components, log_weights = mixture.component_distribution, mixture.log_weights
    factor, loc = scale_tril(components), components.mean
    identity = torch.eye(loc.shape[-1], dtype=loc.dtype, device=loc.device)
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    precision = inverse.mT @ inverse  # (N, K, D, D)
    pull = (precision @ loc.unsqueeze(-1)).squeeze(-1)
    narrowest = factor.diagonal(dim1=-2, dim2=-1).amin((-1, -2))
    x = loc.clone()  # (N, start, D)
    for _ in range(ITERATIONS):
        share = _responsibilities(log_weights, loc, inverse, x)  # (N, start, K)
        total = torch.einsum("nsk,nkij->nsij", share, precision)
        new = torch.linalg.solve(total, torch.einsum("nsk,nki->nsi", share, pull))
        moved = (new - x).abs().amax((-1, -2))
        x = new
        if bool((moved <= 1e-9 * narrowest).all()):
            break
    height = mixture.log_prob(x.movedim(1, 0)).movedim(0, 1)
    # The first of those that meet stands for all of them.
    apart = (x.unsqueeze(2) - x.unsqueeze(1)).norm(dim=-1)
    together = apart <= MERGED * narrowest[:, None, None] * len(identity) ** 0.5
    first = together.to(torch.uint8).argmax(-1)
    probability = torch.zeros_like(height).scatter_add(1, first, log_weights.exp())
    there = first == torch.arange(x.shape[1], device=x.device)
    there &= _is_maximum(log_weights, loc, inverse, precision, x)
    location = torch.where(there.unsqueeze(-1), x, math.nan)
    return location, torch.where(there, height, math.nan), torch.where(there, probability, math.nan)


def _responsibilities(log_weights: Tensor, loc: Tensor, inverse: Tensor, x: Tensor) -> Tensor:
    away = x.unsqueeze(2) - loc.unsqueeze(1)  # (N, start, K, D)
    standard = torch.einsum("nkij,nskj->nski", inverse, away)
    log_size = inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return torch.softmax((log_weights + log_size).unsqueeze(1) - 0.5 * (standard**2).sum(-1), -1)


def _is_maximum(log_weights: Tensor, loc: Tensor, inverse: Tensor, precision: Tensor, x: Tensor) -> Tensor:
    """Whether the Hessian of the log density is negative: a mean on a ridge between two others stays on a saddle."""
    share = _responsibilities(log_weights, loc, inverse, x)
    gradient = torch.einsum("nkij,nskj->nski", precision, loc.unsqueeze(1) - x.unsqueeze(2))
    outer = torch.einsum("nsk,nski,nskj->nsij", share, gradient, gradient)
    hessian = outer - torch.einsum("nsk,nkij->nsij", share, precision)
    # At a stationary point; in units of the average precision, so that rounding is told from a saddle.
    scale = torch.einsum("nsk,nkii->ns", share, precision)
    return torch.linalg.eigvalsh(hessian).amax(-1) <= 1e-6 * scale
