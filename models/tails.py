"""Distribution functions of one-dimensional components, accurate in both tails.

`torch.distributions` computes the upper tail as ``1 - cdf``, which is exactly 0 from 5.5 (float32) or 8.3
(float64) standard deviations on, and has no distribution function at all for Student's t. A pull of an outlier
needs both, so these three functions know the usual families (see also `families`) and fall back on the distribution's
own. A family without one is a ``ValueError`` that names it.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy
import torch
from scipy import special
from torch import Tensor
from torch.distributions import Distribution, Gamma, Laplace, LogNormal, Normal, Poisson, StudentT, VonMises

from posterity.models import families


def cdf(distribution: Distribution, value: Tensor) -> Tensor:
    """P(Y <= value); shapes broadcast as in ``distribution.log_prob``."""
    if isinstance(distribution, Normal):
        return _normal_cdf((value - distribution.loc) / distribution.scale)
    if isinstance(distribution, StudentT):
        return _student_t_cdf(distribution, value)
    if isinstance(distribution, Laplace):
        return _laplace_cdf((value - distribution.loc) / distribution.scale)
    if isinstance(distribution, LogNormal):
        return cdf(distribution.base_dist, value.clamp_min(0).log())
    if isinstance(distribution, Poisson):
        # P(Y <= k) = Q(k + 1, rate), the regularised upper incomplete gamma function.
        count, rate = torch.broadcast_tensors(value.floor().clamp_min(0), distribution.rate)
        return torch.where(value < 0, 0.0, torch.special.gammaincc(count + 1, rate))
    if isinstance(distribution, VonMises):
        return _von_mises_cdf(distribution, value)
    if isinstance(distribution, Gamma):
        return torch.special.gammainc(distribution.concentration, distribution.rate * value.clamp_min(0))
    found = families.evaluate(distribution, "cdf", value)
    return _own(distribution, "cdf", value) if found is None else found


def sf(distribution: Distribution, value: Tensor) -> Tensor:
    """P(Y > value), without the cancellation of ``1 - cdf`` for symmetric families and those of `families`.

    For others it is at least half the dtype's epsilon, so that a tail beyond it reads as that and not as impossible.
    """
    if isinstance(distribution, Normal | StudentT | Laplace):
        return cdf(distribution, 2 * distribution.loc - value)
    if isinstance(distribution, LogNormal):
        return sf(distribution.base_dist, value.clamp_min(0).log())
    if isinstance(distribution, Poisson):
        count, rate = torch.broadcast_tensors(value.floor().clamp_min(0), distribution.rate)
        return torch.where(value < 0, 1.0, torch.special.gammainc(count + 1, rate))
    if isinstance(distribution, Gamma):
        return torch.special.gammaincc(distribution.concentration, distribution.rate * value.clamp_min(0))
    found = families.evaluate(distribution, "sf", value)
    if found is not None:
        return found
    below = cdf(distribution, value)
    # Cancellation leaves nothing beneath half a unit in the last place: a bound keeps the pull finite and honest.
    return torch.where(below < 1, 1 - below, 0.5 * torch.finfo(below.dtype).eps)


def icdf(distribution: Distribution, probability: Tensor) -> Tensor:
    """The quantile function; infinite at 0 and 1 where the support is unbounded."""
    if isinstance(distribution, Normal):
        return distribution.loc + distribution.scale * torch.special.ndtri(probability)
    if isinstance(distribution, StudentT):
        # The lower tail and its mirror image: SciPy answers +inf for a probability of 0.
        standard = _scipy(special.stdtrit, distribution.df, torch.minimum(probability, 1 - probability)).abs()
        return distribution.loc + distribution.scale * torch.where(probability < 0.5, -standard, standard)
    if isinstance(distribution, Laplace):
        lower = torch.log(2 * torch.minimum(probability, 1 - probability))
        return distribution.loc + distribution.scale * torch.where(probability < 0.5, lower, -lower)
    if isinstance(distribution, LogNormal):
        return icdf(distribution.base_dist, probability).exp()
    if isinstance(distribution, Poisson):
        return _poisson_icdf(distribution, probability)
    found = families.evaluate(distribution, "ppf", probability)
    if found is not None:
        discrete = getattr(distribution.support, "is_discrete", False)
        return found.clamp_min(0) if discrete else found  # SciPy counts from -1 at 0
    return _own(distribution, "icdf", probability)


def _own(distribution: Distribution, function: str, at: Tensor) -> Tensor:
    try:
        found: Tensor = getattr(distribution, function)(at)
    except NotImplementedError:
        what = "distribution" if function == "cdf" else "quantile"
        raise ValueError(f"expected a family with a {what} function, got {type(distribution).__name__}") from None
    return found


def _normal_cdf(standard: Tensor) -> Tensor:
    """By erfc: ``torch.special.ndtr`` is (1 + erf)/2 on the CPU, which is 0 from -8.3 on."""
    return 0.5 * torch.erfc(standard * -math.sqrt(0.5))


def _student_t_cdf(distribution: StudentT, value: Tensor) -> Tensor:
    return _scipy(special.stdtr, distribution.df, (value - distribution.loc) / distribution.scale)


def _laplace_cdf(standard: Tensor) -> Tensor:
    tail = 0.5 * torch.exp(-standard.abs())
    return torch.where(standard < 0, tail, 1 - tail)


def _von_mises_cdf(distribution: VonMises, value: Tensor) -> Tensor:
    """From -pi on, for angles in (-pi, pi]; below it 0 and above it 1."""

    def up_to(angle: Tensor) -> Tensor:
        return _scipy(lambda k, x: scipy.stats.vonmises.cdf(x, k), distribution.concentration, angle - distribution.loc)

    return (up_to(value.clamp(-math.pi, math.pi)) - up_to(torch.full_like(value, -math.pi))).clamp(0, 1)


def _poisson_icdf(distribution: Poisson, probability: Tensor) -> Tensor:
    """The smallest count whose distribution function reaches the probability."""
    probability, rate = torch.broadcast_tensors(probability, distribution.rate)
    count = _scipy(special.pdtrik, probability, rate).ceil().nan_to_num(0.0).clamp_min(0)  # nan below P(Y = 0)
    for step in (1, -1):  # a rounding error either way
        reached = cdf(distribution, count if step == 1 else count - 1) >= probability
        count = torch.where(reached if step == -1 else ~reached, count + step, count).clamp_min(0)
    return torch.where(probability >= 1, math.inf, count)


def _scipy(function: Callable[..., np.ndarray], *arguments: Tensor) -> Tensor:
    """A function of SciPy on tensors; no gradient passes, and the result has the last argument's dtype and device."""
    like = arguments[-1]
    result = function(*(a.detach().cpu().double().numpy() for a in arguments))
    return torch.as_tensor(result, dtype=like.dtype, device=like.device)
