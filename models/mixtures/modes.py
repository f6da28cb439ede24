"""Modes of a mixture: the local maxima of its density, and the probability of each.

A mixture can have fewer modes than components, since components merge, and, with several targets, more
(Carreira-Perpiñán 2000, "Mode-finding for mixtures of Gaussian distributions", IEEE TPAMI 22). With one target all
modes are found, from nodes on the scale of each component. With several targets the search starts at the mean of each
component and follows the fixed-point iteration of that paper's section 4.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.models.mixtures import nodes
from posterity.models.mixtures.density import interval_probability
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.protocol import MixtureLike
from posterity.models.mixtures.subspace import scale_tril
from posterity.validation import check_number

ITERATIONS = 2000
MERGED = 1e-3  # standard deviations of the narrowest component


@dataclass(frozen=True)
class Modes:
    """The modes of each mixture of a batch, the highest first; a row with fewer modes than others ends with NaN.

    Attributes:
        location: (..., M) + event, positions of the local maxima.
        log_density: (..., M), the log density there.
        probability: (..., M): with one target, the probability between the minima on both sides of the mode; with
            several, the sum of the weights of the components whose means lead to the mode.
    """

    location: Tensor
    log_density: Tensor
    probability: Tensor

    @property
    def count(self) -> Tensor:
        """The number of modes, shape (...)."""
        return self.log_density.isfinite().sum(-1)


def find_modes(mixture: MixtureLike, min_probability: float) -> Modes:
    """See `Mixture.modes`."""
    check_number("min_probability", min_probability, "[0, 1)")
    several = len(mixture.event_shape) > 0
    if len(mixture.event_shape) > 1:
        raise ValueError(f"expected an event shape of at most one dimension, got {tuple(mixture.event_shape)}")
    if not mixture.batch_shape.numel():
        none = mixture.log_weights.new_empty(*mixture.batch_shape, 1)
        return Modes(none.reshape(*none.shape, *(1,) * several).expand(*none.shape, *mixture.event_shape), none, none)
    with torch.no_grad():
        parts = [_multivariate(part) if several else _univariate(part) for part in nodes.flat_chunks(mixture)]
    location, height, probability = (_joined(values) for values in zip(*parts, strict=True))
    low = ~(probability >= min_probability)
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


def _univariate(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    """Location, log density and probability (N, M) of the modes of mixtures of one target."""
    ends = extrema(mixture)
    location, there, minima = ends.modes, ends.there, ends.minima
    height = nodes.log_mass_or_density(mixture, location.masked_fill(~there, math.inf))
    edges = torch.cat([torch.full_like(location[:1], -math.inf), minima, torch.full_like(location[:1], math.inf)])
    probability = interval_probability(mixture, edges[:-1], edges[1:])
    if is_circular(mixture.component_distribution):
        probability = _circular_probability(mixture, ends, probability)
    return tuple(torch.where(there, v, math.nan).mT for v in (location, height, probability))  # type: ignore[return-value]


@dataclass(frozen=True)
class Extrema:
    """Nodes and extrema of the density of N mixtures of one target.

    Attributes:
        x: (G, N), the nodes, in ascending order; a row with fewer nodes ends with infinity.
        height: (G, N), the log density at the nodes.
        modes: (M, N), the modes in ascending order; any number where ``there`` is False.
        there: (M, N), whether the mode exists.
        minima: (M - 1, N), the minima between neighbouring modes; infinite where there is none.
    """

    x: Tensor
    height: Tensor
    modes: Tensor
    there: Tensor
    minima: Tensor


def extrema(mixture: MixtureLike) -> Extrema:
    """All local maxima of the density, and the minima between neighbouring maxima."""
    x = nodes.sorted_nodes(mixture)
    height = nodes.log_mass_or_density(mixture, x)
    low = torch.full_like(height[:1], -math.inf)
    circular = is_circular(mixture.component_distribution)
    # A circle has no end: its first node (-pi) and its last (pi) are the same point.
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
        location = nodes.refine(lambda v: nodes.log_mass_or_density(mixture, v), left, right)
    return Extrema(x, height, location, there, _minima(mixture, x, height, index, there))


def _minima(mixture: MixtureLike, x: Tensor, height: Tensor, index: Tensor, there: Tensor) -> Tensor:
    """The minima between neighbouring modes."""
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
    return nodes.refine(lambda v: -nodes.log_mass_or_density(mixture, v), left, right).masked_fill(~there[1:], math.inf)


def _circular_probability(mixture: MixtureLike, ends: Extrema, probability: Tensor) -> Tensor:
    """The probabilities of modes on a circle, where one minimum lies after the last mode and before the first."""
    x, location = ends.x, ends.modes
    last = ends.there.sum(0, keepdim=True) - 1
    after, before = x > location.gather(0, last), x < location[:1]
    height = torch.where(after | before, ends.height, math.inf)
    index, end = height.argmin(0, keepdim=True), x.isfinite().sum(0, keepdim=True) - 1
    # -pi and pi are the same point, so the search may cross it.
    left = torch.where(index > 0, (index - 1).clamp_min(0), end - 1)
    right = torch.where(index < end, (index + 1).minimum(end), 1)
    around = 2 * math.pi
    low = x.gather(0, left) - torch.where(index > 0, 0.0, around)
    high = x.gather(0, right) + torch.where(index < end, 0.0, around)
    lowest = nodes.refine(lambda v: -nodes.log_mass_or_density(mixture, v), low, high)
    lowest = math.pi - torch.remainder(math.pi - lowest, 2 * math.pi)
    endless = torch.full_like(lowest, math.inf)
    # The probability beyond the minimum was counted for the last mode and belongs to the first, or vice versa.
    beyond = torch.where(lowest > location[:1], interval_probability(mixture, lowest, endless), 0.0)
    ahead = torch.where(lowest < location[:1], interval_probability(mixture, -endless, lowest), 0.0)
    probability = probability.index_add(0, torch.zeros(1, dtype=torch.long, device=x.device), beyond - ahead)
    return probability.scatter_add(0, last, ahead - beyond)


def _multivariate(mixture: MixtureLike) -> tuple[Tensor, Tensor, Tensor]:
    """Location (N, M, D), log density and probability (N, M) of the modes of mixtures of several targets.

    Each search starts at the mean of a component; a fixed-point step never lowers the density.
    """
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
    # The first of all searches that end at the same point represents them.
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
    """Whether the Hessian of the log density is negative definite at stationary points x.

    A search that starts on the ridge between two other components ends at a saddle point.
    """
    share = _responsibilities(log_weights, loc, inverse, x)
    gradient = torch.einsum("nkij,nskj->nski", precision, loc.unsqueeze(1) - x.unsqueeze(2))
    outer = torch.einsum("nsk,nski,nskj->nsij", share, gradient, gradient)
    hessian = outer - torch.einsum("nsk,nkij->nsij", share, precision)
    # In units of the average precision, so that rounding is not mistaken for a saddle.
    scale = torch.einsum("nsk,nkii->ns", share, precision)
    return torch.linalg.eigvalsh(hessian).amax(-1) <= 1e-6 * scale
