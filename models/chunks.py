"""Elementwise work on large tensors in chunks that fit into the cache.

Each operation of torch passes over a whole tensor. Where the tensor is larger than the cache, ten cheap operations in
a row take ten times the time to and from main memory. A chunk that fits into the cache passes through all ten
operations at once, and chunks are shared among threads without a barrier after each operation.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor

LARGE = 2**18  # numbers in a tensor from which chunks are faster than operations on the whole tensor
CHUNK = 2**18  # numbers in a chunk on a CPU: 1 MiB in single precision
DEVICE_CHUNK = 2**24  # numbers in a chunk on another device


def untransformed(*tensors: Tensor) -> bool:
    """Whether no transform of torch (compile, trace, vmap, forward-mode derivative) sees operations on these tensors.

    Only then may operations work in place on chunks.
    """
    return not (
        torch.compiler.is_compiling()
        or _is_tracing()
        or _in_functorch_transform()
        or _in_dispatch_mode()
        or (_in_dual_level() and any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors))
    )


# These five states are known to private functions of torch alone. Where a version of torch lacks the function, the
# answer is True: then whole tensors are used, which is slower and always right.


def _is_tracing() -> bool:
    """Whether ``torch.jit.trace`` records operations."""
    state = getattr(torch._C, "_get_tracing_state", None)
    return state is None or state() is not None


def _in_functorch_transform() -> bool:
    """Whether a function is being transformed by ``vmap``, ``grad`` or another transform of ``torch.func``."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is None or bool(active())


def _in_dispatch_mode() -> bool:
    """Whether a dispatch mode, such as the one of ``make_fx``, intercepts operations."""
    depth = getattr(torch._C, "_len_torch_dispatch_stack", None)
    return depth is None or bool(depth())


def _in_dual_level() -> bool:
    """Whether forward-mode derivatives are being computed; tensors have no tangents otherwise."""
    level = getattr(torch.autograd.forward_ad, "_current_level", None)
    return level is None or level >= 0


def is_batched(grad: Tensor) -> bool:
    """Whether ``grad`` holds many gradients at once, as with ``is_grads_batched``."""
    check = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    return check is None or bool(check(grad))


def for_each_chunk(work: Callable[[slice], None], like: Tensor) -> None:
    """Call ``work`` with each chunk of the rows of ``like`` (N, K), on as many threads as torch would use.

    No operation is recorded for a gradient. On a CPU each chunk is worked on by one thread: sharing so few numbers
    within an operation costs more time than it saves, on a machine with other work 20 times as much.
    """
    (rows, count), on_cpu = like.shape, like.device.type == "cpu"
    size = max(1, (CHUNK if on_cpu else DEVICE_CHUNK) // max(count, 1))
    parts = [slice(start, start + size) for start in range(0, rows, size)]
    workers = min(torch.get_num_threads(), len(parts)) if on_cpu else 1
    # The gradient mode is a setting of each thread.
    unrecorded = torch.inference_mode()(work) if torch.is_inference_mode_enabled() else torch.no_grad()(work)
    with single_threaded():
        if workers <= 1:
            for part in parts:
                unrecorded(part)
            return
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(unrecorded, parts):
                pass


class _ThreadCount:
    """How many callers use `single_threaded` now, and torch's number of threads before the first of them."""

    lock, callers, usual = Lock(), 0, 1


@contextmanager
def single_threaded() -> Iterator[None]:
    """Set torch to one thread inside, and restore its number of threads afterwards, also with concurrent callers.

    A Python thread that torch first sees inside starts with one thread: it gets the number of the other callers.
    """
    with _ThreadCount.lock:
        if not _ThreadCount.callers:
            _ThreadCount.usual = torch.get_num_threads()
        _ThreadCount.callers += 1
        before = _ThreadCount.usual
        if before > 1:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        with _ThreadCount.lock:
            _ThreadCount.callers -= 1
            if before > 1:
                torch.set_num_threads(before)


def elementwise(x: Tensor, value: Callable[[Tensor], Tensor], derivative: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``value(x)`` for an elementwise function whose derivative is ``derivative(x, value(x))``.

    A large tensor is worked on in chunks, and only x and the result are kept for the gradient. Neither function may
    use ``out=``.
    """
    if x.numel() < LARGE or not untransformed(x):
        return value(x)
    return _Elementwise.apply(x, value, derivative)


class _Elementwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Any, derivative: Any) -> Tensor:
        result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        rows, into = (t.detach().reshape(-1, x.shape[-1]) for t in (x, result))

        def work(part: slice) -> None:
            into[part] = value(rows[part])

        for_each_chunk(work, rows)
        ctx.save_for_backward(x, result)
        ctx.value, ctx.derivative = value, derivative
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, result = ctx.saved_tensors
        # A second derivative is wanted, or many gradients at once.
        if torch.is_grad_enabled() or is_batched(grad) or not untransformed(grad):
            return grad * ctx.derivative(x, ctx.value(x)), None, None
        product = torch.empty_like(result)
        rows, values, weights, into = (t.detach().reshape(-1, x.shape[-1]) for t in (x, result, grad, product))

        def work(part: slice) -> None:
            torch.mul(weights[part], ctx.derivative(rows[part], values[part]), out=into[part])

        for_each_chunk(work, rows)
        return product, None, None
