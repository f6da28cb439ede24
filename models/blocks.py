"""Work on very many rows, a block at a time: memory, not arithmetic, is what it waits for.

Each operation of torch goes through whole arrays. Where these are larger than any cache, ten cheap operations in a row
cost ten times the way to memory; a block that fits into the cache goes through all ten at once, and blocks are shared
among threads without a barrier after each operation.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor

FEWEST = 2**18  # numbers from which it is worth the calls
BLOCK = 2**18  # numbers in a block on a CPU: a megabyte in single precision
DEVICE_BLOCK = 2**24  # elsewhere


def plain(*tensors: Tensor) -> bool:
    """Whether these are nothing but numbers: nothing records, batches or differentiates forwards."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
        and not any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors)
    )


def over_blocks(work: Callable[[slice], None], like: Tensor) -> None:
    """``work`` of one block of the rows of ``like`` (N, K) after the other, on as many threads as torch would use.

    Nothing is recorded. On a CPU every block has one thread: sharing so little within an operation costs more than it
    saves, and on a machine with other work 20 times as much.
    """
    (rows, count), on_cpu = like.shape, like.device.type == "cpu"
    size = max(1, (BLOCK if on_cpu else DEVICE_BLOCK) // max(count, 1))
    parts = [slice(start, start + size) for start in range(0, rows, size)]
    workers = min(torch.get_num_threads(), len(parts)) if on_cpu else 1
    # Whether anything is recorded is a setting of each thread.
    silent = torch.inference_mode()(work) if torch.is_inference_mode_enabled() else torch.no_grad()(work)
    with one_thread():
        if workers <= 1:
            for part in parts:
                silent(part)
            return
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(silent, parts):
                pass


class _Inside:
    """Who works with one thread now, and how many threads there were before the first of them."""

    lock, count, usual = Lock(), 0, 1


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, and as before afterwards, also where several threads of Python are in here at once.

    A thread that torch sees for the first time meanwhile starts with that one: it gets the others' number.
    """
    with _Inside.lock:
        if not _Inside.count:
            _Inside.usual = torch.get_num_threads()
        _Inside.count += 1
        before = _Inside.usual
        if before > 1:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if before > 1:
                torch.set_num_threads(before)


def pointwise(x: Tensor, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``value(x)``, number by number; ``slope(x, value(x))`` is its derivative. Both are written without ``out=``.

    Where there are very many numbers, in blocks, and nothing is kept for the gradient but x and the result.
    """
    if x.numel() < FEWEST or not plain(x):
        return value(x)
    return _Pointwise.apply(x, value, slope)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Any, slope: Any) -> Tensor:
        result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        rows, into = (t.detach().reshape(-1, x.shape[-1]) for t in (x, result))

        def work(part: slice) -> None:
            into[part] = value(rows[part])

        over_blocks(work, rows)
        ctx.save_for_backward(x, result)
        ctx.value, ctx.slope = value, slope
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, result = ctx.saved_tensors
        # A gradient of this gradient is wanted, or many at a time.
        if torch.is_grad_enabled() or batched(grad) or not plain(grad):
            return grad * ctx.slope(x, ctx.value(x)), None, None
        found = torch.empty_like(result)
        rows, values, weights, into = (t.detach().reshape(-1, x.shape[-1]) for t in (x, result, grad, found))

        def work(part: slice) -> None:
            torch.mul(weights[part], ctx.slope(rows[part], values[part]), out=into[part])

        over_blocks(work, rows)
        return found, None, None


def batched(grad: Tensor) -> bool:
    """Whether many gradients are asked for at once, by ``is_grads_batched``."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(grad))
