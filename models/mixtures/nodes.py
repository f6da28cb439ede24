"""Nodes for the density of a mixture of one target: points so dense that the density is monotone or unimodal between.

The nodes of each component are its own quantiles, so that neither a narrow component of small weight nor a wide one is
missed. Mixtures of thousands of components (a posterior's draws) would have more nodes than needed: they get the
quantiles of the mixture.
"""

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace

from posterity.models import tails
from posterity.models.mixtures import density
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.protocol import MixtureLike
from posterity.models.parameters import map_parameters

REACH = 6.0  # standard deviations of a normal: all but 2e-9 of its probability
FEWEST, MOST = 9, 41  # nodes of one component
ALL_NODES = 4096  # nodes of all components together, at most
QUANTILES = 65  # quantiles of a mixture with more components than that allows, with equal steps between them
CUSP = 1e-6  # distance of nodes from the cusp of a Laplace density, in its scale
CHUNK = 2_000_000  # nodes times components times rows in a chunk
LARGEST_RANGE = 100_000  # counts


def is_discrete(mixture: MixtureLike) -> bool:
    """Whether the target is a count."""
    return bool(getattr(mixture.component_distribution.support, "is_discrete", False))


def flat_chunks(mixture: MixtureLike) -> Iterator[MixtureLike]:
    """Chunks of rows of the mixture, with a batch of one dimension, in double precision and without validation."""
    ndim = len(mixture.batch_shape)
    flat = map_parameters(
        cast(Distribution, mixture),
        lambda t: t.detach().double().reshape(math.prod(mixture.batch_shape), *t.shape[ndim:]),
    )
    flat._validate_args = flat.component_distribution._validate_args = False
    size = max(1, CHUNK // max(ALL_NODES // 2, mixture.num_components * 2 * FEWEST))
    for start in range(0, len(flat.log_weights), size):
        part = flat[start : start + size]
        part._validate_args = part.component_distribution._validate_args = False
        yield part


def sorted_nodes(mixture: MixtureLike) -> Tensor:
    """Sorted nodes (G, N) of a mixture with batch shape (N,); a row with fewer nodes ends with infinity."""
    if is_discrete(mixture):
        return _counts(mixture)
    if is_circular(mixture.component_distribution):
        return _circle(mixture)
    if mixture.num_components * FEWEST > ALL_NODES:
        return _distinct(_mixture_quantiles(mixture))
    at = torch.linspace(-REACH, REACH, _count(mixture), dtype=torch.double)
    below = tails.cdf(torch.distributions.Normal(at.new_zeros(()), 1.0), at)
    shape = (len(at),) + (1,) * 2
    nodes = tails.icdf(mixture.component_distribution, below.reshape(shape).to(mixture.mean))
    if isinstance(mixture.component_distribution, Laplace):
        # A cusp on the slope of another component is a maximum, however close the minimum beside it.
        centre, width = mixture.component_distribution.loc, mixture.component_distribution.scale
        nodes = torch.cat([nodes, torch.stack([centre - CUSP * width, centre + CUSP * width])])
    absent = mixture.log_weights == -math.inf
    return _distinct(nodes.masked_fill(absent, math.inf).movedim(-1, 1).flatten(0, 1))


def _mixture_quantiles(mixture: MixtureLike) -> Tensor:
    """Approximate quantiles of the mixture, and equal steps between them.

    The quantiles are those of a discrete distribution: each component is replaced by its own quantiles, each of which
    carries the probability around it.
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
    part = torch.linspace(0, 1, ALL_NODES // 2 // QUANTILES + 1, dtype=torch.double).to(quantile)[:-1, None, None]
    return torch.cat([(quantile[:-1] + part * quantile.diff(dim=0)).flatten(0, 1), quantile[-1:]])


def _count(mixture: MixtureLike) -> int:
    """The number of nodes of a component; odd, so that one node is the median."""
    count = ALL_NODES // mixture.num_components
    return ALL_NODES // 2 if count < FEWEST else 2 * (min(count, MOST) // 2) + 1


def _distinct(nodes: Tensor) -> Tensor:
    """The nodes sorted along the first dimension; those equal up to rounding are replaced by infinity at the end."""
    nodes = nodes.sort(0).values
    size = torch.where(nodes.isfinite(), nodes, 0.0).abs().amax(0)
    same = torch.zeros_like(nodes, dtype=torch.bool)
    same[1:] = nodes[1:] - nodes[:-1] <= 1e-12 * size + torch.finfo(nodes.dtype).tiny
    nodes = nodes.masked_fill(same, math.inf).sort(0).values
    return nodes[: max(2, int(nodes.isfinite().sum(0).max()))]


def _circle(mixture: MixtureLike) -> Tensor:
    """Equal steps around the circle, and finer steps around the direction of each component."""
    components = mixture.component_distribution
    even = torch.linspace(-math.pi, math.pi, 257, dtype=torch.double).to(mixture.mean)[:, None]
    away = torch.linspace(-REACH, REACH, MOST, dtype=torch.double).to(mixture.mean)[:, None, None]
    near = components.loc + away / components.concentration.clamp_min(1).sqrt()
    near = torch.remainder(near + math.pi, 2 * math.pi) - math.pi
    return _distinct(torch.cat([even.expand(-1, near.shape[1]), near.movedim(-1, 1).flatten(0, 1)]))


def _counts(mixture: MixtureLike) -> Tensor:
    """All counts between the outermost quantiles of all components, the same for all rows."""
    tail = tails.cdf(torch.distributions.Normal(0.0, 1.0), torch.tensor(-REACH)).double()
    ends = tails.icdf(mixture.component_distribution, torch.stack([tail, 1 - tail])[:, None, None].to(mixture.mean))
    low, high = int(ends[0].min()), int(ends[1].max()) + 1
    if high - low > LARGEST_RANGE:
        raise ValueError(f"expected counts over a range of at most {LARGEST_RANGE}, got {low} to {high}")
    # One more at either end, so that a mode at zero is recognised.
    span = torch.arange(low - 1, high + 1, dtype=torch.double).to(mixture.mean)
    return span[:, None].expand(-1, len(mixture.mean))


def log_mass_or_density(mixture: MixtureLike, value: Tensor) -> Tensor:
    """The log density at points (..., N); -inf at points that are infinite or outside the support."""
    return _log_mass(mixture, value) if is_discrete(mixture) else density.log_density(mixture, value)


def _log_mass(mixture: MixtureLike, value: Tensor) -> Tensor:
    """The log probability of counts; a component whose support lacks the count contributes zero.

    (torch's binomial of ten trials returns NaN for eleven successes.)
    """
    components, point = mixture.component_distribution, value.unsqueeze(-1)
    there = components.support.check(point)
    log_mass = torch.where(there, components.log_prob(torch.where(there, point, 0.0)), -math.inf)
    return torch.logsumexp(mixture.log_weights + log_mass, -1)


def refine(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 60) -> Tensor:
    """The maximum of a unimodal function between ``low`` and ``high``, by golden-section search."""
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
    """Indices (M, N), in order, of the true entries of a mask (G, N), and a mask (M, N) of the indices that exist."""
    count = chosen.sum(0)
    most = max(1, int(count.max()))
    order = torch.argsort((~chosen).to(torch.uint8), dim=0, stable=True)[:most]
    return order, torch.arange(most, device=chosen.device)[:, None] < count
