"""Samples whose gradients are right: implicit reparameterisation (Figurnov, Mohamed & Mnih 2018, arXiv:1805.08498).

The component of a draw cannot be differentiated, but the draw can: z solves F(z; parameters) = u, so that
dz/dparameter = -(dF/dparameter) / p(z), eq. 5, whatever component it came from. Several targets are solved one after
another, each from its distribution given those before it (their multivariate distributional transform, section 4).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace, LogNormal, LowRankMultivariateNormal, MultivariateNormal, Normal

from posterity.models import tails
from posterity.models.mixtures.subspace import is_diagonal, scale_tril

SCALAR = (Normal, Laplace, LogNormal)


def has_gradients(components: Distribution) -> bool:
    """Whether the distribution function of these components can be differentiated."""
    if not components.event_shape:
        return isinstance(components, SCALAR)
    return is_diagonal(components) or isinstance(components, MultivariateNormal | LowRankMultivariateNormal)


def attach(log_weights: Tensor, components: Distribution, value: Tensor) -> Tensor:
    """``value``, a sample of the mixture, with the gradient that belongs to it.

    ``log_weights`` (..., K), ``components`` (..., K), ``value`` of shape (sample..., ...) + event.
    """
    value = value.detach()
    if components.event_shape:
        return _attach_in_turn(log_weights, components, value)
    point = value.unsqueeze(-1)
    below = (log_weights.exp() * tails.cdf(components, point)).sum(-1)
    density = torch.logsumexp(log_weights + components.log_prob(point), -1)
    return _moved(value, below, density)


def _moved(value: Tensor, below: Tensor, log_density: Tensor) -> Tensor:
    moved: Tensor = _Implicit.apply(value, below, log_density.detach())
    return moved


class _Implicit(torch.autograd.Function):
    """The value itself, which moves against the distribution function below it, by one over the density.

    Once: how this slope moves in its turn is not said here, and a second derivative would be wrong without a word.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, below: Tensor, log_density: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        below, log_density = ctx.saved_tensors
        slope = -grad * torch.exp(-log_density)
        return None, _Once.apply(slope, below) if torch.is_grad_enabled() else slope, None


class _Once(torch.autograd.Function):
    """A gradient that cannot be differentiated by what it depends on."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, below: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        raise RuntimeError("expected one derivative of a sample of a mixture: that of its gradient is not known")


def _attach_in_turn(log_weights: Tensor, components: Distribution, value: Tensor) -> Tensor:
    loc, factor = components.mean, scale_tril(components)
    log_weights = log_weights.expand(*value.shape[:-1], log_weights.shape[-1])
    columns: list[Tensor] = []
    standard: list[Tensor] = []  # of each component, for the targets so far
    for d in range(value.shape[-1]):
        scale = factor[..., d, d]
        centre = loc[..., d]
        for j, e in enumerate(standard):
            centre = centre + factor[..., d, j] * e

        def at(point: Tensor, centre: Tensor = centre, scale: Tensor = scale) -> Tensor:
            return (point.unsqueeze(-1) - centre) / scale

        e = at(value[..., d])
        below = (log_weights.softmax(-1) * 0.5 * torch.erfc(-e * math.sqrt(0.5))).sum(-1)
        log_density = torch.logsumexp(log_weights.log_softmax(-1) + _log_normal(e, scale), -1)
        columns.append(_moved(value[..., d], below, log_density))
        # The targets that follow see this one move with the parameters.
        standard.append(at(columns[-1]))
        log_weights = log_weights + _log_normal(standard[-1], scale)
    return torch.stack(columns, -1)


def _log_normal(standard: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * standard**2 - scale.log() - 0.5 * math.log(2 * math.pi)
