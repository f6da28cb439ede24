"""The log density of large batches of mixtures of normals, and draws of their components, in chunks of rows.

In torch the density of 10^6 rows with 20 components is limited by memory: each of about 25 operations passes over
tensors far larger than the cache. Here a chunk that fits into the cache passes through all operations (see
`posterity.models.chunks`), and the gradient is a formula instead of a recording, so that only the parameters are kept.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from posterity.models import chunks

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def applies(logits: Tensor, components: Distribution, value: Tensor) -> bool:
    """Whether `log_prob` can be used: a large number of normals, none expanded or under a transform of torch."""
    if not isinstance(components, Normal) or logits.numel() < chunks.LARGE:
        return False
    tensors = (logits, components.loc, components.scale)
    return (
        value.shape == logits.shape[:-1]
        and all(t.shape == logits.shape and 0 not in t.stride() and t.dtype == value.dtype for t in tensors)
        and chunks.untransformed(*tensors, value)
    )


def log_prob(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """log sum_k w_k N(value | loc_k, scale_k), shape (...); logits (need not be normalised), loc, scale (..., K)."""
    return _LogProb.apply(logits, loc, scale, value)


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """Component indices (...) by inversion of the cumulative weights at 1 - ``uniform``; logits (..., K).

    With ``uniform`` (...) in [0, 1), as from ``torch.rand``, 1 - ``uniform`` is in (0, 1]: neither end selects a
    component whose weight is zero or rounds to it.
    """
    rows, flat = logits.reshape(-1, logits.shape[-1]), uniform.reshape(-1)
    chosen = torch.empty(len(rows), dtype=torch.long, device=rows.device)

    def work(part: slice) -> None:
        below = _exp(rows[part])[0].cumsum(-1)
        # A multiple of the last sum, so that the index is never beyond the last component with a weight.
        chosen[part] = ((1 - flat[part, None]) * below[:, -1:] > below[:, :-1]).sum(-1)

    chunks.for_each_chunk(work, rows)
    return chosen.reshape(uniform.shape)


def _exp(terms: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """exp(terms - shift) for terms (N, K), its sum over K (N,), and the shift (N, 1), or None if it is zero.

    The maximum of each row takes more time than all else: the shift is left out if all sums are far from the limits of
    the dtype.
    """
    weights = terms.exp()
    total = _sum(weights)
    if _within(total):
        return weights, total, None
    shift = terms.amax(-1, keepdim=True)
    weights = (terms - shift).exp_()
    return weights, _sum(weights), shift


def _sum(weights: Tensor) -> Tensor:
    """Sum over the last dimension, as a product with ones, which is twice as fast."""
    return weights @ weights.new_ones(weights.shape[-1])


def _within(total: Tensor, lost: float = 1.0) -> bool:
    """Whether all sums are far from the limits of the dtype, the lower one multiplied by ``lost``.

    Then all terms that underflowed to zero are below the rounding error of their sum.
    """
    info = torch.finfo(total.dtype)
    least = info.tiny / info.eps**1.5
    low, high = torch.aminmax(total)  # false for NaN
    return bool((low > least * max(lost, 1.0)) & (high < 1 / least))


def _shares(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """The terms of one chunk.

    Returns:
        Standardised residuals (N, K); unnormalised weights, and weights times densities, both (N, K); the sums of both
        over K (N,); and the number (N,) to be added to the log of the ratio of the sums.
    """
    standard = (value.unsqueeze(-1) - loc).div_(scale)
    prior, of_prior, shift = _exp(logits)
    heights = prior / scale
    exponents = standard.square().mul_(-0.5)
    # Subnormal numbers are many times slower than zeros.
    joint = torch.threshold_(exponents, math.log(torch.finfo(exponents.dtype).tiny), -math.inf).exp_().mul_(heights)
    of_joint = _sum(joint)
    if _within(of_joint, lost=float(heights.max())):
        return standard, prior, joint, of_prior, of_joint, torch.zeros_like(value)
    terms = torch.addcmul(logits, standard, standard, value=-0.5).sub_(scale.log())
    largest = terms.amax(-1, keepdim=True)
    largest = torch.where(largest == -math.inf, 0.0, largest)  # the square overflowed: density 0
    joint = (terms - largest).exp_()
    short = largest if shift is None else largest - shift
    return standard, prior, joint, of_prior, _sum(joint), short.squeeze(-1)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(logits, loc, scale, value)
        logits, loc, scale = (t.detach().reshape(-1, logits.shape[-1]) for t in (logits, loc, scale))
        y = value.detach().reshape(-1)
        result = torch.empty_like(y)

        def work(part: slice) -> None:
            *_, of_prior, of_joint, short = _shares(logits[part], loc[part], scale[part], y[part])
            torch.add(short, of_joint.log_().sub_(of_prior.log_()), out=result[part])

        chunks.for_each_chunk(work, logits)
        return result.sub_(HALF_LOG_TWO_PI).reshape(value.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs, wanted = ctx.saved_tensors, ctx.needs_input_grad
        # A second derivative is wanted, or many gradients at once.
        if torch.is_grad_enabled() or chunks.is_batched(grad):
            return _gradient(inputs, wanted, grad)
        logits, loc, scale = (t.detach().reshape(-1, inputs[0].shape[-1]) for t in inputs[:3])
        y, weight = inputs[3].detach().reshape(-1), grad.reshape(-1)
        gradients = [
            torch.empty(t.shape, dtype=t.dtype, device=t.device) if need else None
            for t, need in zip((logits, loc, scale, y), wanted, strict=True)
        ]

        def work(part: slice) -> None:
            width, own = scale[part], weight[part]
            standard, prior, joint, of_prior, of_joint, _ = _shares(logits[part], loc[part], width, y[part])
            share = joint.mul_(torch.where(of_joint == 0, 0.0, own / of_joint).unsqueeze(-1))
            if gradients[0] is not None:
                torch.sub(share, prior.mul_((own / of_prior).unsqueeze(-1)), out=gradients[0][part])
            if not any(wanted[1:]):
                return
            inverse = share.div_(width)
            pull = inverse * standard
            if gradients[1] is not None:
                gradients[1][part] = pull
            if gradients[3] is not None:
                torch.neg(_sum(pull), out=gradients[3][part])
            if gradients[2] is not None:
                torch.sub(pull.mul_(standard), inverse, out=gradients[2][part])

        chunks.for_each_chunk(work, logits)
        return tuple(None if g is None else g.reshape(t.shape) for g, t in zip(gradients, inputs, strict=True))


def _gradient(inputs: tuple[Tensor, ...], wanted: tuple[bool, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `_LogProb` for all rows at once, without operations in place: can be recorded and batched."""
    logits, loc, scale, value = inputs
    standard = (value.unsqueeze(-1) - loc) / scale
    weight = grad.unsqueeze(-1)
    share = torch.softmax(logits - 0.5 * standard**2 - scale.log(), -1) * weight
    pull = share * standard / scale
    gradients = (share - torch.softmax(logits, -1) * weight, pull, pull * standard - share / scale, -pull.sum(-1))
    return tuple(value if need else None for value, need in zip(gradients, wanted, strict=True))
