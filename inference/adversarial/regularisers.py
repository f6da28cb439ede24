"""What keeps a discriminator from being so steep that nothing can be learnt from it.

A regulariser is a function ``(discriminator, real, fake, uniform) -> penalty`` whose result is added to the
discriminator's loss: a tensor (), or (M,) for M games side by side. ``discriminator`` maps samples (..., B, D...) to
logits (..., P), one for each sample or each pack of samples; ``uniform()`` draws numbers (..., B) in [0, 1] from the
random numbers of the run. A discriminator's spectral norm is a property of its layers: see
`posterity.models.discriminators`.

Gradients of gradients cost more than the rest of a step. A penalty with ``every`` of k is taken in each k-th step only,
and then k-fold: "lazy regularisation" (Karras et al. 2020, arXiv:1912.04958, section 3.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from posterity.validation import check_integer, check_number

Discriminate = Callable[[Tensor], Tensor]
Uniform = Callable[[], Tensor]
Regulariser = Callable[[Discriminate, Tensor, Tensor, Uniform], Tensor]


@dataclass(frozen=True)
class Penalty:
    """A `Regulariser` with a name: two of one name, weight and ``every`` are equal, in any process.

    Called, it is ``weight`` times the ``value``; the trainer takes it ``every``-fold in each of the steps it is due.
    """

    name: str
    weight: float
    value: Regulariser = field(repr=False, compare=False)
    every: int = 1

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1)
        check_number("weight", self.weight, "(0, inf)")

    def __call__(self, discriminate: Discriminate, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return self.weight * self.value(discriminate, real, fake, uniform)


def gradient_penalty(weight: float = 10.0, *, every: int = 1) -> Penalty:
    """weight E (|grad D(x)| - 1)², x between a real and a generated sample (Gulrajani et al. 2017, eq. 3).

    Goes with the Wasserstein loss, whose discriminator should have a slope of one there.
    """

    def value(discriminate: Discriminate, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        share = uniform().to(real)
        point = torch.lerp(real, fake, share.reshape(*share.shape, *(1,) * (real.ndim - share.ndim)))
        return ((_slope(discriminate, point) - 1) ** 2).mean(-1)

    return Penalty("gradient_penalty", weight, value, every)


def r1(weight: float = 1.0, *, every: int = 1) -> Penalty:
    """weight/2 E |grad D(x)|² at real samples (Mescheder, Geiger & Nowozin 2018, eq. 9): training converges locally."""
    return Penalty("r1", weight, lambda discriminate, real, *_: 0.5 * (_slope(discriminate, real) ** 2).mean(-1), every)


def r2(weight: float = 1.0, *, every: int = 1) -> Penalty:
    """As `r1`, at generated samples (eq. 10)."""
    return Penalty(
        "r2", weight, lambda discriminate, _, fake, *__: 0.5 * (_slope(discriminate, fake) ** 2).mean(-1), every
    )


def due(regularisers: Sequence[Regulariser], step: int) -> list[tuple[int, Regulariser]]:
    """Those that are taken in this step, each with how many times; of several lazy ones, not all in one step."""
    often = [one.every if isinstance(one, Penalty) else 1 for one in regularisers]
    turns = enumerate(zip(often, regularisers, strict=True))
    return [(every, one) for turn, (every, one) in turns if (step + turn * every // len(often)) % every == 0]


def _slope(discriminate: Discriminate, point: Tensor) -> Tensor:
    """Norms (..., P) of the gradient of every logit by all it was made of, a sample or a pack; differentiable."""
    point = point.detach().requires_grad_()
    logits = discriminate(point)
    (gradient,) = torch.autograd.grad(logits.sum(), point, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # squares of halves overflow
    squares = (gradient**2).reshape(*logits.shape, -1).sum(-1)  # samples of a pack stand one after the other
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()  # the root of zero has no gradient
