"""What keeps a discriminator from being so steep that nothing can be learnt from it.

A regulariser is a function ``(discriminator, real, fake, generator) -> penalty`` whose result, a tensor (), is added to
the discriminator's loss; ``discriminator`` maps samples (B, ...) to logits with one number each, ``generator`` is the
`torch.Generator` of its random numbers. A discriminator's spectral norm is a property of its layers: see
`posterity.models.discriminators`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminate = Callable[[Tensor], Tensor]
Regulariser = Callable[[Discriminate, Tensor, Tensor, torch.Generator], Tensor]


def gradient_penalty(weight: float = 10.0) -> Regulariser:
    """weight E (|grad D(x)| - 1)², x between a real and a generated sample (Gulrajani et al. 2017, eq. 3).

    Goes with the Wasserstein loss, whose discriminator should have a slope of one there.
    """
    _positive("gradient_penalty", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        share = torch.rand(len(real), generator=generator, device=generator.device, dtype=real.dtype).to(real.device)
        point = torch.lerp(real, fake, share.reshape(-1, *(1,) * (real.ndim - 1)))
        return weight * ((_slope(discriminate, point) - 1) ** 2).mean()

    return penalty


def r1(weight: float = 1.0) -> Regulariser:
    """weight/2 E |grad D(x)|² at real samples (Mescheder, Geiger & Nowozin 2018, eq. 9): training converges locally."""
    _positive("r1", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        return 0.5 * weight * (_slope(discriminate, real) ** 2).mean()

    return penalty


def r2(weight: float = 1.0) -> Regulariser:
    """As `r1`, at generated samples (eq. 10)."""
    _positive("r2", weight)

    def penalty(discriminate: Discriminate, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        return 0.5 * weight * (_slope(discriminate, fake) ** 2).mean()

    return penalty


def _slope(discriminate: Discriminate, point: Tensor) -> Tensor:
    """Norms (B,) of the gradient of every sample's own logit, themselves differentiable."""
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(point).sum(), point, create_graph=True)
    # The root of zero has no gradient.
    return (gradient.flatten(1) ** 2).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny).sqrt()


def _positive(name: str, weight: float) -> None:
    if not 0 < weight < float("inf"):
        raise ValueError(f"expected a finite weight above 0 for {name}, got {weight}")
