r"""The log density of mixtures of normals of several independent targets, with its gradient as a formula.

With $z_{kd} = (y_d - \mu_{kd}) / \sigma_{kd}$ and the share $r_k$ of component k in the density, the gradients of
$\log p(y)$ by $\mu_{kd}$ and $\sigma_{kd}$ are $r_k z_{kd} / \sigma_{kd}$ and $r_k (z_{kd}^2 - 1) / \sigma_{kd}$. A
recording for autograd takes about twice the time and memory. See `fused` for one target.
"""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from posterity.models import chunks
from posterity.models.likelihoods import MAX_LOG_SCALE

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
WIDE = 16  # targets from which rows stay adjacent in memory; below, loops over a few targets would be slow
FEW = 8  # terms of a sum that are added one after the other


def applies_to_vectors(logits: Tensor, components: Distribution, value: Tensor) -> bool:
    """Whether `log_prob_of_vectors` can be used: independent normals, one vector ``value``, no transform of torch."""
    if not isinstance(value, Tensor) or not isinstance(components, Independent):
        return False
    if not isinstance(components.base_dist, Normal):
        return False
    loc, scale = components.base_dist.loc, components.base_dist.scale
    shape = (*logits.shape, loc.shape[-1])
    return (
        len(components.event_shape) == 1
        and loc.shape == scale.shape == shape
        and value.shape == (*shape[:-2], shape[-1])
        and all(t.dtype == logits.dtype for t in (loc, scale, value))
        and chunks.untransformed(logits, loc, scale, value)
    )


def log_prob_of_vectors(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """log sum_k w_k prod_d N(value_d | loc_kd, scale_kd), shape (...).

    ``logits`` (..., K) need not be normalised; ``loc`` and ``scale`` are (..., K, D), ``value`` is (..., D).
    """
    return _LogProb.apply(logits, loc, scale, value)


def has_parts(features: Tensor, loc: Tensor, scale: Tensor) -> bool:
    """Whether `parts` can be used: one dtype, constant ``loc`` and ``scale``, under no transform of torch."""
    constant = not loc.requires_grad and not scale.requires_grad
    return constant and loc.dtype == scale.dtype == features.dtype and chunks.untransformed(features, loc, scale)


def parts(features: Tensor, offsets: Tensor, least: float, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (..., K), means and standard deviations (..., K, D) of ``loc + scale * Y`` from raw ``features`` (..., F).

    For Y with means m and standard deviations sqrt(exp(2 s) + least), where the sum of features and ``offsets``
    (K, 1 + 2 D) holds a logit, D numbers m and D numbers s. ``loc`` and ``scale`` are (D,). More features are ignored:
    to slice them off would cost a gradient of their size.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Parts.apply(features, offsets, least, loc, scale)
    return found


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
        off = (loc - value.unsqueeze(-2)).div_(scale)  # -z, in the layout of loc
        joint, share = _normalised(logits - _summed(scale.log().addcmul_(off, off, value=0.5)))
        prior, weight = _normalised(logits)
        ctx.save_for_backward(logits, loc, scale, value, off, share, weight)
        return joint.sub_(prior).sub_(HALF_LOG_TWO_PI * loc.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        logits, loc, scale, value, off, share, weight = ctx.saved_tensors
        own = grad.unsqueeze(-1)
        if torch.is_grad_enabled() or chunks.is_batched(grad):  # a second derivative, or many gradients at once
            off = (loc - value.unsqueeze(-2)) / scale
            share = torch.softmax(logits - (0.5 * off**2 + scale.log()).sum(-1), -1) * own
            narrow = -share.unsqueeze(-1) / scale
            of_loc = narrow * off
            of_logits = share - torch.softmax(logits, -1) * own
            return of_logits, of_loc, narrow - of_loc * off, -of_loc.sum(-2)
        share = share * own
        narrow = torch.div(share.neg().unsqueeze(-1), scale)
        of_loc = narrow * off
        of_value = -of_loc.sum(-2) if ctx.needs_input_grad[3] else None
        return share.addcmul_(weight, own, value=-1), of_loc, narrow.addcmul_(of_loc, off, value=-1), of_value


def _normalised(terms: Tensor) -> tuple[Tensor, Tensor]:
    """The log of the sum of exponentials (...), and the share of each (..., K), 0 if all exponentials are 0."""
    largest = terms.amax(-1, keepdim=True)
    largest = torch.where(largest == -math.inf, 0.0, largest)
    share = (terms - largest).exp_()
    total = _summed(share)
    share.div_(total.clamp_min(torch.finfo(total.dtype).tiny).unsqueeze(-1))
    return total.log_().add_(largest.squeeze(-1)), share


def _summed(terms: Tensor) -> Tensor:
    """Sum over the last dimension; torch's own is slow for few terms."""
    if terms.stride(-1) != 1:
        return reduce(torch.add, terms.unbind(-1)) if terms.shape[-1] <= FEW else terms.sum(-1)
    return terms @ terms.new_ones(terms.shape[-1])


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, offsets: Tensor, least: float, loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        count, flat = len(loc), features.reshape(-1, features.shape[-1])[:, : offsets.numel()]
        flat = flat.t().contiguous().t() if count < WIDE else flat
        (logits, means, log_scales), starts = (
            (values[..., 0], values[..., 1 : 1 + count], values[..., 1 + count :])
            for values in (flat.unflatten(-1, offsets.shape), offsets)
        )
        mean = torch.addcmul(loc + scale * starts[1], means, scale)
        square = torch.add(2 * starts[2], log_scales, alpha=2).clamp_(max=2 * MAX_LOG_SCALE).exp_()
        spread = (square + least).sqrt_().mul_(scale)
        ctx.save_for_backward(features, offsets, scale, square, spread)
        ctx.least = least
        return tuple(part.reshape(*features.shape[:-1], *part.shape[1:]) for part in (logits + starts[0], mean, spread))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        features, offsets, scale, square, spread = ctx.saved_tensors
        limit = math.exp(2 * MAX_LOG_SCALE) * (1 - 1e-6)  # a larger square was clamped
        if torch.is_grad_enabled() or chunks.is_batched(gradients[1]):
            own, rest = features.split([offsets.numel(), features.shape[-1] - offsets.numel()], -1)
            log_scale = (own.unflatten(-1, offsets.shape) + offsets)[..., 1 + len(scale) :]
            square = (2 * log_scale.clamp(max=MAX_LOG_SCALE)).exp()
            slope = torch.where(square < limit, scale * square / (square + ctx.least).sqrt(), 0.0)
            parts = (gradients[0].unsqueeze(-1), gradients[1] * scale, gradients[2] * slope)
            whole = torch.cat([torch.cat(parts, -1).reshape(own.shape), torch.zeros_like(rest)], -1)
            return whole, None, None, None, None
        count, rows, columns = len(scale), len(spread), features.shape[-1]
        whole = spread.new_empty(columns, rows).t() if count < WIDE else spread.new_empty(rows, columns)
        parts = whole[:, : offsets.numel()].unflatten(-1, offsets.shape)
        whole[:, offsets.numel() :] = 0.0
        of_logits, of_mean, of_spread = (g.reshape(rows, *g.shape[features.ndim - 1 :]) for g in gradients)
        parts[..., 0] = of_logits
        torch.mul(of_mean, scale, out=parts[..., 1 : 1 + count])
        slope = (square * scale.square()).div_(spread).masked_fill_(square > limit, 0.0)
        torch.mul(of_spread, slope, out=parts[..., 1 + count :])
        return whole.reshape(features.shape), None, None, None, None
