"""What keeps a discriminator from being so steep that nothing can be learnt from it.

A regulariser is a function ``(discriminator, real, fake, uniform) -> penalty`` whose result is added to the
discriminator's loss: a tensor (), or (M,) for M games side by side. ``discriminator`` maps samples (..., B, D...) to
logits (..., P), one for each sample or each pack of samples; ``uniform()`` draws numbers (..., B) in [0, 1] from the
random numbers of the run. A discriminator's spectral norm is a property of its layers: see
`posterity.models.discriminators`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminate = Callable[[Tensor], Tensor]
Uniform = Callable[[], Tensor]
Regulariser = Callable[[Discriminate, Tensor, Tensor, Uniform], Tensor]


def gradient_penalty(weight: float = 10.0) -> Regulariser:
    """weight E (|grad D(x)| - 1)², x between a real and a generated sample (Gulrajani et al. 2017, eq. 3).

    Goes with the Wasserstein loss, whose discriminator should have a slope of one there.
    """
    _positive("gradient_penalty", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        share = uniform().to(real)
        point = torch.lerp(real, fake, share.reshape(*share.shape, *(1,) * (real.ndim - share.ndim)))
        return weight * ((_slope(discriminate, point) - 1) ** 2).mean(-1)

    return penalty


def r1(weight: float = 1.0) -> Regulariser:
    """weight/2 E |grad D(x)|² at real samples (Mescheder, Geiger & Nowozin 2018, eq. 9): training converges locally."""
    _positive("r1", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return 0.5 * weight * (_slope(discriminate, real) ** 2).mean(-1)

    return penalty


def r2(weight: float = 1.0) -> Regulariser:
    """As `r1`, at generated samples (eq. 10)."""
    _positive("r2", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return 0.5 * weight * (_slope(discriminate, fake) ** 2).mean(-1)

    return penalty


def _slope(discriminate: Discriminate, point: Tensor) -> Tensor:
    """Norms (..., B) of the gradient of every sample's own logit, themselves differentiable."""
    point = point.detach().requires_grad_()
    logits = discriminate(point)
    (gradient,) = torch.autograd.grad(logits.sum(), point, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # squares of halves overflow
    squares = (gradient**2).flatten(logits.ndim).sum(-1)
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()  # the root of zero has no gradient


def _positive(name: str, weight: float) -> None:
    if not 0 < weight < float("inf"):
        raise ValueError(f"expected a finite weight above 0 for {name}, got {weight}")
