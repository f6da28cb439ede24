"""Quantiles of a mixture of one target: the inverse of its distribution function."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models import tails
from posterity.models.mixtures import nodes, normal_quantiles
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.protocol import MixtureLike

MAX_STEPS = 200
FEWEST = 16  # components from which `normal_quantiles` is faster
SMALLEST = 1e-6  # probability of the smaller tail down to which `normal_quantiles` is accurate to ten digits


def mixture_quantiles(mixture: MixtureLike, probability: Tensor) -> Tensor:
    """Quantiles at ``probability``, whose last dimensions are the batch shape; see `Mixture.icdf`."""
    if nodes.is_discrete(mixture):
        return _count_quantiles(mixture, probability)
    if _many_normals(mixture, probability):
        return _normal_quantiles(mixture, probability)
    # The equation is for the smaller tail, so that quantiles near 1 are as accurate as those near 0.
    upper = probability > 0.5
    target = torch.where(upper, 1 - probability, probability)
    low, high, middle = _bracket(mixture, probability)
    unbounded = torch.isinf(low) | torch.isinf(high)
    answer = torch.where(unbounded, torch.where(upper, high, low), low)
    guess = torch.where(unbounded, middle, 0.5 * (low + high))
    tolerance = 4 * torch.finfo(guess.dtype).eps
    width = high - low
    for step in range(MAX_STEPS):
        below, above = mixture.cdf(guess), mixture.sf(guess)
        excess = torch.where(upper, target - above, below - target)
        low, high = torch.where(excess < 0, guess, low), torch.where(excess < 0, high, guess)
        newton = guess - excess / mixture.log_prob(guess).exp().clamp_min(torch.finfo(guess.dtype).tiny)
        inside = (newton > low) & (newton < high)
        # Newton steps approach from one side and leave the bracket wide, so the probability decides on convergence.
        done = (excess.abs() <= 16 * tolerance * target) | (high - low <= tolerance * guess.abs()) | unbounded
        if bool(done.all()):
            break
        # Every fourth step halves the bracket if Newton steps have not: they are short where the density is flat.
        slow = (high - low > 0.5 * width) & (step % 4 == 3)
        width = high - low if step % 4 == 3 else width
        proposal = torch.where(inside & ~slow, newton, 0.5 * (low + high))
        guess = torch.where(done, guess, proposal)
    return torch.where(unbounded, answer, guess)


def _many_normals(mixture: MixtureLike, probability: Tensor) -> bool:
    """Whether `normal_quantiles` applies and is accurate."""
    components = mixture.component_distribution
    if not isinstance(components, Normal) or mixture.num_components < FEWEST or not probability.numel():
        return False
    return bool(torch.minimum(probability, 1 - probability).min() >= SMALLEST)


def _normal_quantiles(mixture: MixtureLike, probability: Tensor) -> Tensor:
    weight, components = mixture.log_weights.exp(), mixture.component_distribution
    shape = (math.prod(mixture.batch_shape), mixture.num_components)
    weights, loc, scale = (
        part.expand(weight.shape).reshape(shape).double() for part in (weight, components.loc, components.scale)
    )
    quantiles = normal_quantiles.normal_mixture_quantiles(
        weights, loc, scale, probability.double().reshape(-1, shape[0])
    )
    return quantiles.reshape(probability.shape).to(weight.dtype)


def _bracket(mixture: MixtureLike, probability: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds of the quantile, and a point in the support where they are infinite."""
    if is_circular(mixture.component_distribution):
        half = torch.full_like(probability, math.pi)
        return -half, half, torch.zeros_like(half)
    low, high = _component_quantiles(mixture, probability)
    return low, high, tails.icdf(mixture.component_distribution, torch.full_like(low, 0.5).unsqueeze(-1))[..., 0]


def _component_quantiles(mixture: MixtureLike, probability: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest quantile of the components of positive weight."""
    ends = tails.icdf(mixture.component_distribution, probability.unsqueeze(-1))
    ends = ends.expand(*probability.shape, mixture.num_components)
    present = (mixture.log_weights > -math.inf).expand(ends.shape)
    return ends.masked_fill(~present, math.inf).amin(-1), ends.masked_fill(~present, -math.inf).amax(-1)


def _count_quantiles(mixture: MixtureLike, probability: Tensor) -> Tensor:
    """The smallest counts whose distribution function reaches the probability, by bisection."""
    low, high = _component_quantiles(mixture, probability)
    endless = torch.isinf(high)
    low, high = (torch.where(endless, 0.0, end) for end in (low, high))
    while bool((low < high).any()):
        # float32 has no neighbouring counts above 2**24: the next count is the next number of the dtype.
        middle = torch.minimum(torch.floor(0.5 * (low + high)), torch.nextafter(high, low))
        enough = torch.where(
            probability > 0.5, mixture.sf(middle) <= 1 - probability, mixture.cdf(middle) >= probability
        )
        above = torch.maximum(middle + 1, torch.nextafter(middle, high))
        low, high = torch.where(enough, low, above), torch.where(enough, middle, high)
    return torch.where(endless, math.inf, high)
