"""Where to look at the density of a mixture of one target: points dense enough that it is simple between them.

Every component is looked at on its own scale, at its own quantiles, so that neither a narrow component of small weight
nor a wide one is missed. For mixtures of very many components (a posterior's draws) that would be more points than
anything needs: they get the quantiles of the mixture itself.
"""

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace

from posterity.models import tails
from posterity.models.mixtures import many
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.protocol import MixtureLike
from posterity.models.parameters import map_parameters

REACH = 6.0  # standard deviations of a normal: all but 2e-9 of it
FEWEST, MOST, MANY = 9, 41, 4096  # nodes of one component, and of all together
QUANTILES = 65  # of a mixture of very many components, with even steps between them
CUSP = 1e-6  # scales
BLOCK = 2_000_000  # nodes times components times rows that are held at a time
LARGEST_COUNT = 100_000


def is_discrete(mixture: MixtureLike) -> bool:
    """Whether the target is a count."""
    return bool(getattr(mixture.component_distribution.support, "is_discrete", False))


def rows(mixture: MixtureLike) -> Iterator[MixtureLike]:
    """The mixture with a batch of one dimension, in double precision, a block of rows at a time."""
    ndim = len(mixture.batch_shape)
    flat = map_parameters(
        cast(Distribution, mixture),
        lambda t: t.detach().double().reshape(math.prod(mixture.batch_shape), *t.shape[ndim:]),
    )
    flat._validate_args = flat.component_distribution._validate_args = False
    size = max(1, BLOCK // max(MANY // 2, mixture.num_components * 2 * FEWEST))
    for start in range(0, len(flat.log_weights), size):
        part = flat[start : start + size]
        part._validate_args = part.component_distribution._validate_args = False
        yield part


def points(mixture: MixtureLike) -> Tensor:
    """Sorted points (G, N) of a mixture of batch shape (N,); what is missing in a row is infinite, at its end."""
    if is_discrete(mixture):
        return _counts(mixture)
    if is_circular(mixture.component_distribution):
        return _circle(mixture)
    if mixture.num_components * FEWEST > MANY:
        return _distinct(_of_very_many(mixture))
    at = torch.linspace(-REACH, REACH, _count(mixture), dtype=torch.double)
    below = tails.cdf(torch.distributions.Normal(at.new_zeros(()), 1.0), at)
    shape = (len(at),) + (1,) * 2
    found = tails.icdf(mixture.component_distribution, below.reshape(shape).to(mixture.mean))
    if isinstance(mixture.component_distribution, Laplace):
        # A cusp on the slope of another component is a maximum, however close the minimum beside it.
        centre, width = mixture.component_distribution.loc, mixture.component_distribution.scale
        found = torch.cat([found, torch.stack([centre - CUSP * width, centre + CUSP * width])])
    absent = mixture.log_weights == -math.inf
    return _distinct(found.masked_fill(absent, math.inf).movedim(-1, 1).flatten(0, 1))


def _of_very_many(mixture: MixtureLike) -> Tensor:
    """Quantiles of the mixture, and even steps between them.

    Of the mixture as its components are by their own quantiles: each stands for the probability about it.
    """
    at = torch.linspace(-REACH, REACH, 2 * FEWEST - 1, dtype=torch.double)
    normal = torch.distributions.Normal(at.new_zeros(()), 1.0)
    edges = tails.cdf(normal, 0.5 * (at[1:] + at[:-1]))
    share = torch.cat([edges, edges.new_ones(1)]).diff(prepend=edges.new_zeros(1)).to(mixture.mean)
    own = tails.icdf(mixture.component_distribution, tails.cdf(normal, at)[:, None, None].to(mixture.mean))
    weight = mixture.log_weights.exp() * share[:, None, None]
    own = own.expand(weight.shape).masked_fill(mixture.log_weights == -math.inf, math.inf)
    own, order = own.movedim(0, -1).flatten(1).sort(-1)
    total = weight.movedim(0, -1).flatten(1).gather(-1, order).cumsum(-1)
    steps = tails.cdf(normal, torch.linspace(-REACH, REACH, QUANTILES, dtype=torch.double)).to(total)
    index = torch.searchsorted(total, steps.expand(len(total), -1) * total[:, -1:]).clamp_max(total.shape[-1] - 1)
    inner = own.gather(-1, index).mT
    largest = own.masked_fill(own == math.inf, -math.inf).amax(-1)
    quantile = torch.cat([own[:, :1].mT, inner[1:-1], largest[None]])
    part = torch.linspace(0, 1, MANY // 2 // QUANTILES + 1, dtype=torch.double).to(quantile)[:-1, None, None]
    return torch.cat([(quantile[:-1] + part * quantile.diff(dim=0)).flatten(0, 1), quantile[-1:]])


def _count(mixture: MixtureLike) -> int:
    """Nodes of a component; odd, so that one is its median."""
    count = MANY // mixture.num_components
    return MANY // 2 if count < FEWEST else 2 * (min(count, MOST) // 2) + 1


def _distinct(found: Tensor) -> Tensor:
    """Sorted along the first dimension; points that are equal up to rounding are moved to the end, as infinite."""
    found = found.sort(0).values
    size = torch.where(found.isfinite(), found, 0.0).abs().amax(0)
    same = torch.zeros_like(found, dtype=torch.bool)
    same[1:] = found[1:] - found[:-1] <= 1e-12 * size + torch.finfo(found.dtype).tiny
    found = found.masked_fill(same, math.inf).sort(0).values
    return found[: max(2, int(found.isfinite().sum(0).max()))]


def _circle(mixture: MixtureLike) -> Tensor:
    """Even steps around the circle, and finer ones around each direction, where a component is narrow."""
    components = mixture.component_distribution
    even = torch.linspace(-math.pi, math.pi, 257, dtype=torch.double).to(mixture.mean)[:, None]
    away = torch.linspace(-REACH, REACH, MOST, dtype=torch.double).to(mixture.mean)[:, None, None]
    near = components.loc + away / components.concentration.clamp_min(1).sqrt()
    near = torch.remainder(near + math.pi, 2 * math.pi) - math.pi
    return _distinct(torch.cat([even.expand(-1, near.shape[1]), near.movedim(-1, 1).flatten(0, 1)]))


def _counts(mixture: MixtureLike) -> Tensor:
    """All counts that matter, the same for all rows."""
    tail = tails.cdf(torch.distributions.Normal(0.0, 1.0), torch.tensor(-REACH)).double()
    ends = tails.icdf(mixture.component_distribution, torch.stack([tail, 1 - tail])[:, None, None].to(mixture.mean))
    low, high = int(ends[0].min()), int(ends[1].max()) + 1
    if high - low > LARGEST_COUNT:
        raise ValueError(f"expected counts over a range of at most {LARGEST_COUNT}, got {low} to {high}")
    # One beyond either end, so that a mode at zero is seen to be one.
    span = torch.arange(low - 1, high + 1, dtype=torch.double).to(mixture.mean)
    return span[:, None].expand(-1, len(mixture.mean))


def log_density(mixture: MixtureLike, value: Tensor) -> Tensor:
    """`log_prob` at points (..., N) that may be infinite, or outside the support: minus infinity there."""
    return _log_mass(mixture, value) if is_discrete(mixture) else many.log_density(mixture, value)


def _log_mass(mixture: MixtureLike, value: Tensor) -> Tensor:
    """Component by component: a binomial of ten trials says of an eleventh nothing, and not minus infinity."""
    components, point = mixture.component_distribution, value.unsqueeze(-1)
    there = components.support.check(point)
    found = torch.where(there, components.log_prob(torch.where(there, point, 0.0)), -math.inf)
    return torch.logsumexp(mixture.log_weights + found, -1)


def refine(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 60) -> Tensor:
    """The largest value of a function with one maximum between ``low`` and ``high``: golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(steps):
        left = at_a >= at_b
        low, high = torch.where(left, low, a), torch.where(left, b, high)
        new_a, new_b = high - ratio * (high - low), low + ratio * (high - low)
        point = torch.where(left, new_a, new_b)
        at_point = function(point)
        a, b = torch.where(left, new_a, b), torch.where(left, a, new_b)
        at_a, at_b = torch.where(left, at_point, at_b), torch.where(left, at_a, at_point)
    return (low + high) / 2


def positions(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where a mask (G, N) is true, as indices (M, N) in order, and which of them are there."""
    count = chosen.sum(0)
    most = max(1, int(count.max()))
    order = torch.argsort((~chosen).to(torch.uint8), dim=0, stable=True)[:most]
    return order, torch.arange(most, device=chosen.device)[:, None] < count
