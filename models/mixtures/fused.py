"""The log density of very many mixtures of normals, and draws of their components, a block of rows at a time.

What torch does for 10^6 rows of 20 components is bound by memory: each of some 25 operations goes through arrays far
larger than any cache. Here a block that fits into the cache goes through all of them, and the gradient is written down
instead of recorded, so that nothing is kept but the parameters themselves.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

FEWEST = 2**18  # numbers (rows times components) from which it is worth the calls
BLOCK = 2**16  # numbers in a block
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def applies(logits: Tensor, components: Distribution, value: Tensor) -> bool:
    """Whether `log_prob` is for these: many normals, each with its own parameters, that nothing records or batches."""
    if not isinstance(components, Normal) or logits.numel() < FEWEST:
        return False
    tensors = (logits, components.loc, components.scale)
    return (
        value.shape == logits.shape[:-1]
        and all(t.shape == logits.shape and 0 not in t.stride() and t.dtype == value.dtype for t in tensors)
        and not any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in (*tensors, value))
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._get_tracing_state() is None
        and not torch.compiler.is_compiling()
    )


def log_prob(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """log sum_k w_k N(value | loc_k, scale_k) of logits, loc, scale (..., K), logits not normalised; shape (...)."""
    return _LogProb.apply(logits, loc, scale, value)


def pick(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """The component in whose share of (0, 1] one minus ``uniform`` (...) falls, from log weights (..., K); shape (...).

    ``uniform`` is in [0, 1), as ``torch.rand`` makes it: so neither end falls to a component of hardly any weight.
    """
    rows, count = log_weights.reshape(-1, log_weights.shape[-1]), log_weights.shape[-1]
    flat, chosen = uniform.reshape(-1), torch.empty(len(rows), dtype=torch.long, device=rows.device)
    with _one_thread():
        for part in _blocks(len(rows), count):
            below = rows[part].exp().cumsum(-1)
            # Rounding may leave the sum short of 1, never the index beyond the last component that has a weight.
            below = below / below[:, -1:]
            chosen[part] = (1 - flat[part, None] > below[:, :-1]).sum(-1)
    return chosen.reshape(uniform.shape)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sharing so little among threads costs more than it saves: on a busy machine 20 times as much."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def _blocks(rows: int, count: int) -> list[slice]:
    size = max(1, BLOCK // count)
    return [slice(start, start + size) for start in range(0, rows, size)]


def _terms(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Standardised residuals, and log weight plus log density of each component but for a constant."""
    standard = (value.unsqueeze(-1) - loc).div_(scale)
    return standard, torch.addcmul(logits, standard, standard, value=-0.5).sub_(scale.log())


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(logits, loc, scale, value)
        count = logits.shape[-1]
        flat = [t.detach().reshape(-1, count) for t in (logits, loc, scale)]
        y = value.detach().reshape(-1)
        result = torch.empty_like(y)
        with _one_thread():
            for part in _blocks(len(y), count):
                _, terms = _terms(flat[0][part], flat[1][part], flat[2][part], y[part])
                result[part] = torch.logsumexp(terms, -1) - torch.logsumexp(flat[0][part], -1)
        return result.sub_(HALF_LOG_TWO_PI).reshape(value.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        # A gradient of this gradient is wanted, or many at a time: see `_gradient`.
        if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(grad):
            return _gradient(inputs, ctx.needs_input_grad, grad)
        count = inputs[0].shape[-1]
        logits, loc, scale = (t.reshape(-1, count) for t in inputs[:3])
        y, weight = inputs[3].reshape(-1), grad.reshape(-1)
        wanted = ctx.needs_input_grad
        found = [torch.empty_like(t) if need else None for t, need in zip((logits, loc, scale, y), wanted, strict=True)]
        with _one_thread():
            for part in _blocks(len(y), count):
                standard, terms = _terms(logits[part], loc[part], scale[part], y[part])
                share = torch.softmax(terms, -1).mul_(weight[part, None])
                if found[0] is not None:
                    prior = torch.softmax(logits[part], -1).mul_(weight[part, None])
                    torch.sub(share, prior, out=found[0][part])
                if not any(wanted[1:]):
                    continue
                inverse = share / scale[part]
                pull = inverse * standard
                if found[1] is not None:
                    found[1][part] = pull
                if found[2] is not None:
                    torch.sub(pull.mul(standard), inverse, out=found[2][part])
                if found[3] is not None:
                    found[3][part] = -pull.sum(-1)
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
