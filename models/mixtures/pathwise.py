r"""Pathwise gradients of samples by implicit reparameterisation (Figurnov, Mohamed & Mnih 2018, arXiv:1805.08498).

The index of a drawn component has no derivative, but the draw $z$ has one: it solves $F(z; \theta) = u$, so that
$\partial z / \partial \theta = -(\partial F / \partial \theta) / p(z)$ (eq. 5), whatever its component. With several
targets, each is differentiated through its distribution given the targets before it (the multivariate distributional
transform, section 4).
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
    """Whether the distribution function of these components has derivatives by their parameters."""
    if not components.event_shape:
        return isinstance(components, SCALAR)
    return is_diagonal(components) or isinstance(components, MultivariateNormal | LowRankMultivariateNormal)


def attach(log_weights: Tensor, components: Distribution, value: Tensor) -> Tensor:
    """``value``, a sample of the mixture, with its gradient by the weights and the components' parameters.

    ``log_weights`` (..., K), ``components`` (..., K), ``value`` of shape (sample..., ...) + event.
    """
    value = value.detach()
    if components.event_shape:
        return _attach_multivariate(log_weights, components, value)
    point = value.unsqueeze(-1)
    below = (log_weights.exp() * tails.cdf(components, point)).sum(-1)
    density = torch.logsumexp(log_weights + components.log_prob(point), -1)
    return _with_gradient(value, below, density)


def _with_gradient(value: Tensor, below: Tensor, log_density: Tensor) -> Tensor:
    result: Tensor = _Implicit.apply(value, below, log_density.detach())
    return result


class _Implicit(torch.autograd.Function):
    """The value, whose derivative by the distribution function at the value is -1 / density.

    Second derivatives are refused: they would lack the derivative of the density and be wrong.
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
        return None, _RefuseBackward.apply(slope, below) if torch.is_grad_enabled() else slope, None


class _RefuseBackward(torch.autograd.Function):
    """The first argument; a derivative of it raises ``RuntimeError``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, below: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        raise RuntimeError("expected at most one derivative of a sample of a mixture, got a second derivative")


def _attach_multivariate(log_weights: Tensor, components: Distribution, value: Tensor) -> Tensor:
    loc, factor = components.mean, scale_tril(components)
    log_weights = log_weights.expand(*value.shape[:-1], log_weights.shape[-1])
    columns: list[Tensor] = []
    standard: list[Tensor] = []  # standardised targets so far, for each component
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
        columns.append(_with_gradient(value[..., d], below, log_density))
        # Later targets depend on the parameters through this one as well.
        standard.append(at(columns[-1]))
        log_weights = log_weights + _log_normal(standard[-1], scale)
    return torch.stack(columns, -1)


def _log_normal(standard: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * standard**2 - scale.log() - 0.5 * math.log(2 * math.pi)
