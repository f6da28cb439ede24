"""Penalties on the slope of the discriminator, which would otherwise grow until the generator learns nothing from it.

A regulariser is a function ``(discriminator, real, fake, uniform) -> penalty``; the penalty is added to the
discriminator's loss. It has shape (), or (M,) for M runs side by side. ``discriminator`` maps samples (..., B, D...) to
logits (..., P), one for each sample or for each pack of samples; ``uniform()`` draws numbers (..., B) in [0, 1] with
the random numbers of the run. If the discriminator has a logit for each patch of a sample, ``discriminator`` returns
their mean, whose slope falls as the number of patches grows: `r1` and `r2` then need a larger weight. For the spectral
norm, which belongs to the layers of a network, see `posterity.models.discriminators`.

Gradients of gradients cost more than the rest of a step. A penalty with ``every`` = k is therefore added in every k-th
step only, multiplied by k: "lazy regularisation" (Karras et al. 2020, arXiv:1912.04958, section 3.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from posterity.validation import check_integer, check_number

Discriminator = Callable[[Tensor], Tensor]
Uniform = Callable[[], Tensor]
Regulariser = Callable[[Discriminator, Tensor, Tensor, Uniform], Tensor]


@dataclass(frozen=True)
class Penalty:
    """A `Regulariser` that returns ``weight`` times ``function``, and is due in every k-th step, k = ``every``.

    Penalties compare equal if name, weight and ``every`` are equal, also between processes.

    Raises:
        ValueError: A weight that is not above 0, or ``every`` below 1.
    """

    name: str
    weight: float
    function: Regulariser = field(repr=False, compare=False)
    every: int = 1

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1)
        check_number("weight", self.weight, "(0, inf)")

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return self.weight * self.function(discriminator, real, fake, uniform)


def gradient_penalty(weight: float = 10.0, *, every: int = 1) -> Penalty:
    r"""$w\,E(|\nabla D(x)| - 1)^2$ at points x between a real and a generated sample (Gulrajani et al. 2017, eq. 3).

    For the Wasserstein loss, whose best discriminator has a slope of one at these points.
    """

    def function(discriminator: Discriminator, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        share = uniform().to(real)
        point = torch.lerp(real, fake, share.reshape(*share.shape, *(1,) * (real.ndim - share.ndim)))
        return ((_slope(discriminator, point) - 1) ** 2).mean(-1)

    return Penalty("gradient_penalty", weight, function, every)


def r1(weight: float = 1.0, *, every: int = 1) -> Penalty:
    r"""$\frac{w}{2} E|\nabla D(x)|^2$ at real samples (Mescheder, Geiger & Nowozin 2018, eq. 9).

    With it, training converges locally.
    """
    return Penalty("r1", weight, lambda discriminator, real, *_: _half_square(discriminator, real), every)


def r2(weight: float = 1.0, *, every: int = 1) -> Penalty:
    """The penalty of `r1` at generated samples (eq. 10)."""
    return Penalty("r2", weight, lambda discriminator, _, fake, *__: _half_square(discriminator, fake), every)


def due_penalties(regularisers: Sequence[Regulariser], step: int) -> list[tuple[int, Regulariser]]:
    """The regularisers that are due in this step, each with its factor; lazy ones take turns."""
    periods = [one.every if isinstance(one, Penalty) else 1 for one in regularisers]
    return [
        (period, one)
        for turn, (period, one) in enumerate(zip(periods, regularisers, strict=True))
        if (step + turn * period // len(periods)) % period == 0
    ]


def _half_square(discriminator: Discriminator, point: Tensor) -> Tensor:
    return 0.5 * (_slope(discriminator, point) ** 2).mean(-1)


def _slope(discriminator: Discriminator, point: Tensor) -> Tensor:
    """Differentiable norms (..., P) of the gradient of each logit with respect to its sample, or pack of samples."""
    point = point.detach().requires_grad_()
    logits = discriminator(point)
    (gradient,) = torch.autograd.grad(logits.sum(), point, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # squares overflow in half precision
    squares = (gradient**2).reshape(*logits.shape, -1).sum(-1)  # samples of a pack are consecutive
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()  # the square root has no gradient at zero
