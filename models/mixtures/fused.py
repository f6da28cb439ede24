"""The log density of very many mixtures of normals, and draws of their components, a block of rows at a time.

What torch does for 10^6 rows of 20 components is bound by memory: each of some 25 operations goes through arrays far
larger than any cache. Here a block that fits into the cache goes through all of them (see `blocks`), and the gradient
is written down instead of recorded, so that nothing is kept but the parameters themselves.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from posterity.models import blocks

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def applies(logits: Tensor, components: Distribution, value: Tensor) -> bool:
    """Whether `log_prob` is for these: many normals, each with its own parameters, that nothing records or batches."""
    if not isinstance(components, Normal) or logits.numel() < blocks.FEWEST:
        return False
    tensors = (logits, components.loc, components.scale)
    return (
        value.shape == logits.shape[:-1]
        and all(t.shape == logits.shape and 0 not in t.stride() and t.dtype == value.dtype for t in tensors)
        and blocks.plain(*tensors, value)
    )


def log_prob(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """log sum_k w_k N(value | loc_k, scale_k) of logits, loc, scale (..., K), logits not normalised; shape (...)."""
    return _LogProb.apply(logits, loc, scale, value)


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """The component in whose share of (0, 1] one minus ``uniform`` (...) falls, from logits (..., K); shape (...).

    ``uniform`` is in [0, 1), as ``torch.rand`` makes it: so neither end falls to a component of hardly any weight.
    """
    rows, flat = logits.reshape(-1, logits.shape[-1]), uniform.reshape(-1)
    chosen = torch.empty(len(rows), dtype=torch.long, device=rows.device)

    def work(part: slice) -> None:
        below = _exp(rows[part])[0].cumsum(-1)
        # Of the sum itself, so that the index is never beyond the last component that has a weight.
        chosen[part] = ((1 - flat[part, None]) * below[:, -1:] > below[:, :-1]).sum(-1)

    blocks.over_blocks(work, rows)
    return chosen.reshape(uniform.shape)


def _exp(terms: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """exp(terms - shift) of terms (N, K), its sum over K (N,), and the shift (N, 1), or None where it is zero.

    The largest of a row costs more than all else: the shift is left out where sums are far from the ends of the dtype.
    """
    weights = terms.exp()
    total = _sum(weights)
    if _within(total):
        return weights, total, None
    shift = terms.amax(-1, keepdim=True)
    weights = (terms - shift).exp_()
    return weights, _sum(weights), shift


def _sum(weights: Tensor) -> Tensor:
    """Over the last dimension; as a product with ones, which is twice as fast."""
    return weights @ weights.new_ones(weights.shape[-1])


def _within(total: Tensor, lost: float = 1.0) -> bool:
    """Whether no sum of terms is at either end of the dtype, the lower of which is ``lost`` times its least number.

    Then all that vanished there is below the rounding error of the sum.
    """
    info = torch.finfo(total.dtype)
    least = info.tiny / info.eps**1.5
    low, high = torch.aminmax(total)  # nan stays nan, and is not within
    return bool((low > least * max(lost, 1.0)) & (high < 1 / least))


def _shares(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """Of one block: standardised residuals (N, K), then weights and weights times densities, not normalised (N, K),
    the sums of both (N,), and what the log of the ratio of these sums is short of (N,)."""
    standard = (value.unsqueeze(-1) - loc).div_(scale)
    prior, of_prior, shift = _exp(logits)
    heights = prior / scale
    exponents = standard.square().mul_(-0.5)
    # Numbers below the least normal one are many times slower than nothing.
    joint = torch.threshold_(exponents, math.log(torch.finfo(exponents.dtype).tiny), -math.inf).exp_().mul_(heights)
    of_joint = _sum(joint)
    if _within(of_joint, lost=float(heights.max())):
        return standard, prior, joint, of_prior, of_joint, torch.zeros_like(value)
    terms = torch.addcmul(logits, standard, standard, value=-0.5).sub_(scale.log())
    largest = terms.amax(-1, keepdim=True)
    largest = torch.where(largest == -math.inf, 0.0, largest)  # so far out that its square is no number: density 0
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

        blocks.over_blocks(work, logits)
        return result.sub_(HALF_LOG_TWO_PI).reshape(value.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs, wanted = ctx.saved_tensors, ctx.needs_input_grad
        # A gradient of this gradient is wanted, or many at a time: see `_gradient`.
        if torch.is_grad_enabled() or blocks.batched(grad):
            return _gradient(inputs, wanted, grad)
        logits, loc, scale = (t.detach().reshape(-1, inputs[0].shape[-1]) for t in inputs[:3])
        y, weight = inputs[3].detach().reshape(-1), grad.reshape(-1)
        found = [
            torch.empty(t.shape, dtype=t.dtype, device=t.device) if need else None
            for t, need in zip((logits, loc, scale, y), wanted, strict=True)
        ]

        def work(part: slice) -> None:
            width, own = scale[part], weight[part]
            standard, prior, joint, of_prior, of_joint, _ = _shares(logits[part], loc[part], width, y[part])
            share = joint.mul_(torch.where(of_joint == 0, 0.0, own / of_joint).unsqueeze(-1))
            if found[0] is not None:
                torch.sub(share, prior.mul_((own / of_prior).unsqueeze(-1)), out=found[0][part])
            if not any(wanted[1:]):
                return
            inverse = share.div_(width)
            pull = inverse * standard
            if found[1] is not None:
                found[1][part] = pull
            if found[3] is not None:
                torch.neg(_sum(pull), out=found[3][part])
            if found[2] is not None:
                torch.sub(pull.mul_(standard), inverse, out=found[2][part])

        blocks.over_blocks(work, logits)
        return tuple(None if g is None else g.reshape(t.shape) for g, t in zip(found, inputs, strict=True))


def _gradient(inputs: tuple[Tensor, ...], wanted: tuple[bool, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """What `_LogProb.backward` computes, of all rows at once and nothing in place: it can be recorded and batched."""
    logits, loc, scale, value = inputs
    standard = (value.unsqueeze(-1) - loc) / scale
    weight = grad.unsqueeze(-1)
    share = torch.softmax(logits - 0.5 * standard**2 - scale.log(), -1) * weight
    pull = share * standard / scale
    found = (share - torch.softmax(logits, -1) * weight, pull, pull * standard - share / scale, -pull.sum(-1))
    return tuple(value if need else None for value, need in zip(found, wanted, strict=True))
