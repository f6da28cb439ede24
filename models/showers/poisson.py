r"""`poisson_numbers`: Poisson variables as a function of normal ones, so that a generator can have whole numbers.

The number for a normal z is the quantile of the Poisson distribution at $\Phi(z)$. Up to a rate of `EXACT` its terms
are summed one by one; above, the quantile is that of a Cornish-Fisher expansion (Cornish & Fisher 1938), rounded, whose
distribution differs from the Poisson distribution by less than 0.01 in total variation.
"""

from typing import Any

import torch
from torch import Tensor

from posterity.validation import check_floating, shown_shape

EXACT = 6.0
TERMS = 40  # P(n > 40) is below 1e-20 for a rate of 6


def poisson_numbers(rate: Tensor, z: Tensor) -> Tensor:
    r"""Numbers with a Poisson distribution of these rates, of the shape of both arguments.

    The gradient of a number with respect to its rate is set to 1. For a Poisson variable, the derivative of E f(n) is
    E[f(n + 1) - f(n)] exactly, so the gradient of a smooth function of the numbers is right on average up to its
    curvature between two numbers, although each number itself is a step function of the rate.

    Args:
        rate: at least 0.
        z: draws from the standard normal distribution.

    Raises:
        ValueError: tensors of different shapes, or not floating; negative rates, NaN or infinity.

    >>> import torch
    >>> z = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    >>> n = poisson_numbers(torch.full_like(z, 2.5), z)
    >>> round(n.mean().item(), 1), round(n.var().item(), 1)
    (2.5, 2.5)
    """
    check_floating("rate", rate)
    check_floating("z", z)
    if rate.shape != z.shape:
        raise ValueError(f"expected z of the shape {tuple(rate.shape)} of rate, got {shown_shape(z)}")
    # One pass over each: the sum of something that is not finite is not finite.
    if not bool(torch.isfinite(rate.detach().sum() + z.sum())) or (rate.numel() and float(rate.detach().min()) < 0):
        raise ValueError("expected finite z and finite rate of at least 0, got NaN, infinity or a negative rate")
    numbers: Tensor = _Quantile.apply(rate, z)
    return numbers


class _Quantile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rate: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        return _quantile(rate.detach(), z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _quantile(rate: Tensor, z: Tensor) -> Tensor:
    numbers = (rate + rate.sqrt() * z + (z.square() + 2) / 6).floor().clamp_min(0)  # + 1/2 - 1/6 of the expansion
    few = (rate < EXACT).flatten().nonzero()[:, 0]
    if len(few):
        numbers = numbers.contiguous()
        numbers.view(-1)[few] = _counted(rate.flatten()[few].double(), z.flatten()[few]).to(numbers)
    return numbers


def _counted(rate: Tensor, z: Tensor) -> Tensor:
    """The quantile (N,) of rates (N,) by summing probabilities; only rows whose sum is too small go on."""
    level = torch.special.ndtr(z.double())
    numbers = torch.zeros_like(rate)
    term = (-rate).exp()
    left = (level > term).nonzero()[:, 0]
    rate, term, level = rate[left], term[left], level[left]
    total = term.clone()
    for count in range(1, TERMS):
        if not len(left):
            break
        numbers[left] = count
        term = term * rate / count
        total = total + term
        keep = (level > total).nonzero()[:, 0]
        left, rate, term, level, total = left[keep], rate[keep], term[keep], level[keep], total[keep]
    return numbers
