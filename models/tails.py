"""Distribution functions of scalar families, accurate in both tails.

`torch.distributions` computes the upper tail as ``1 - cdf``, which is exactly 0 from 5.5 (float32) or 8.3 (float64)
standard deviations on, and has no distribution function for Student's t. The pull of an outlier needs both. These
functions cover the usual families (see also `families`) and otherwise call the method of the distribution; a family
without that method raises a ``ValueError`` with its name.
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
    result = families.evaluate(distribution, "cdf", value)
    return _method(distribution, "cdf", value) if result is None else result


def sf(distribution: Distribution, value: Tensor) -> Tensor:
    """P(Y > value), without the cancellation of ``1 - cdf`` for symmetric families and those of `families`.

    For other families it is at least half the epsilon of the dtype, so that no possible value gets probability 0.
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
    result = families.evaluate(distribution, "sf", value)
    if result is not None:
        return result
    below = cdf(distribution, value)
    # Cancellation loses all below half a unit in the last place: the bound keeps a pull finite.
    return torch.where(below < 1, 1 - below, 0.5 * torch.finfo(below.dtype).eps)


def icdf(distribution: Distribution, probability: Tensor) -> Tensor:
    """The quantile function; infinite at 0 and 1 where the support is unbounded."""
    if isinstance(distribution, Normal):
        return distribution.loc + distribution.scale * torch.special.ndtri(probability)
    if isinstance(distribution, StudentT):
        # The lower tail, mirrored for the upper one. SciPy returns +inf for a probability of 0, before 1.17 nan.
        tail = torch.minimum(probability, 1 - probability)
        standard = _scipy(special.stdtrit, distribution.df, tail).abs().masked_fill(tail == 0, math.inf)
        return distribution.loc + distribution.scale * torch.where(probability < 0.5, -standard, standard)
    if isinstance(distribution, Laplace):
        lower = torch.log(2 * torch.minimum(probability, 1 - probability))
        return distribution.loc + distribution.scale * torch.where(probability < 0.5, lower, -lower)
    if isinstance(distribution, LogNormal):
        return icdf(distribution.base_dist, probability).exp()
    if isinstance(distribution, Poisson):
        return _poisson_icdf(distribution, probability)
    quantile = families.evaluate(distribution, "ppf", probability)
    if quantile is not None:
        discrete = getattr(distribution.support, "is_discrete", False)
        return quantile.clamp_min(0) if discrete else quantile  # SciPy returns -1 for counts at probability 0
    return _method(distribution, "icdf", probability)


def _method(distribution: Distribution, function: str, at: Tensor) -> Tensor:
    """The result of the distribution's method; ``ValueError`` for a family without it."""
    try:
        result: Tensor = getattr(distribution, function)(at)
    except NotImplementedError:
        kind = "distribution" if function == "cdf" else "quantile"
        raise ValueError(f"expected a family with a {kind} function, got {type(distribution).__name__}") from None
    return result


def _normal_cdf(standard: Tensor) -> Tensor:
    """By erfc, since ``torch.special.ndtr`` on the CPU is (1 + erf)/2, which is 0 below -8.3."""
    return 0.5 * torch.erfc(standard * -math.sqrt(0.5))


def _student_t_cdf(distribution: StudentT, value: Tensor) -> Tensor:
    return _scipy(special.stdtr, distribution.df, (value - distribution.loc) / distribution.scale)


def _laplace_cdf(standard: Tensor) -> Tensor:
    tail = 0.5 * torch.exp(-standard.abs())
    return torch.where(standard < 0, tail, 1 - tail)


def _von_mises_cdf(distribution: VonMises, value: Tensor) -> Tensor:
    """P(-pi < Y <= value) for angles in (-pi, pi]; 0 below -pi and 1 above pi."""

    def up_to(angle: Tensor) -> Tensor:
        return _scipy(lambda k, x: scipy.stats.vonmises.cdf(x, k), distribution.concentration, angle - distribution.loc)

    return (up_to(value.clamp(-math.pi, math.pi)) - up_to(torch.full_like(value, -math.pi))).clamp(0, 1)


def _poisson_icdf(distribution: Poisson, probability: Tensor) -> Tensor:
    """The smallest count whose distribution function reaches the probability."""
    probability, rate = torch.broadcast_tensors(probability, distribution.rate)
    count = _scipy(special.pdtrik, probability, rate).ceil().nan_to_num(0.0).clamp_min(0)  # NaN below P(Y = 0)
    for step in (1, -1):  # corrects rounding errors in both directions
        reached = cdf(distribution, count if step == 1 else count - 1) >= probability
        count = torch.where(reached if step == -1 else ~reached, count + step, count).clamp_min(0)
    return torch.where(probability >= 1, math.inf, count)


def _scipy(function: Callable[..., np.ndarray], *arguments: Tensor) -> Tensor:
    """A function of SciPy on tensors, without gradient, in the dtype and on the device of the last argument."""
    like = arguments[-1]
    result = function(*(a.detach().cpu().double().numpy() for a in arguments))
    return torch.as_tensor(result, dtype=like.dtype, device=like.device)
