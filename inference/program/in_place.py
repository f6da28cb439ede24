"""Functions that write into tensors, such as ``mu[t] = b * mu[t - 1]``, as functions that do not.

``torch.func`` cannot batch an operation in place on a tensor that has no dimension of draws, and autograd has no
gradient if a value that it needs is written over later, as in a loop over time. Without writes both can.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.overrides import TorchFunctionMode

OPERATORS = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")
HARMLESS = ("requires_grad_", "detach_")
# Under `torch.func.functionalize` a tensor has no memory of its own: code outside of torch would read garbage.
OUTSIDE = ("numpy", "__array__", "tolist", "data_ptr", "untyped_storage", "storage", "__dlpack__")
DETACHING = (Tensor.detach, Tensor.detach_, Tensor.data.__get__)  # type: ignore[attr-defined]


class NoticeWrites(TorchFunctionMode):
    """Notices operations in place: ``found`` says whether there was one."""

    found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found = self.found or _writes(func)
        return func(*args, **(kwargs or {}))


def _writes(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name in OPERATORS or (name.endswith("_") and not name.endswith("__") and name not in HARMLESS)


def without_writes(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of nested tensors, with every operation in place replaced by one that makes a new tensor.

    The results are the same. ``RuntimeError`` if the function writes into a tensor from outside, not made by itself, if
    it reads a tensor outside of torch, and if it detaches a tensor or writes without a gradient: its gradient would be
    another one.
    """

    @functools.wraps(function)
    def other(*args: Any) -> Any:
        with _Rewritten():
            return function(*args)

    return torch.func.functionalize(other)


class _Rewritten(TorchFunctionMode):
    """Parts of tensors, and assignments to them, by operations that `functionalize`, ``vmap`` and autograd all take.

    Under ``vmap`` a slice cannot be written to, but a narrowed tensor can. The functional form of a copy has no
    derivative: it is written as zeros, to which the value is added. A new tensor that is made from data alone, such as
    ``torch.zeros_like(x)``, is made known to `functionalize`.
    """

    def __enter__(self) -> Any:
        self.differentiates = torch.is_grad_enabled()
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in OUTSIDE and functorch.is_functionaltensor(args[0]):
            raise RuntimeError(f"Tensor.{name} reads a tensor outside of torch")
        if func in DETACHING or (self.differentiates and _writes(func) and not torch.is_grad_enabled()):
            raise RuntimeError("a tensor is detached, or written to without a gradient")
        if kwargs:
            return _known(func(*args, **kwargs), (*args, *kwargs.values()))
        if func is Tensor.__getitem__ and _is_view(args[1]):
            return _part(*args)
        if func is Tensor.__setitem__ and _is_view(args[1]) and args[0].is_floating_point():
            _fill(_part(*args[:2]), args[2])
            return None
        if func is Tensor.copy_ and len(args) == 2 and args[0].is_floating_point():
            return _fill(*args)
        return _known(func(*args), args)


def _known(result: Any, args: Any) -> Any:
    """A new tensor as one that `functionalize` follows; anything else, such as a view of data, unchanged."""
    if not isinstance(result, Tensor) or functorch.is_functionaltensor(result):
        return result
    if result._is_view() or any(result is x for x in args):
        return result
    level = functorch.maybe_current_level()
    return result if level is None else functorch._wrap_functional_tensor(result, level)


def _fill(part: Tensor, value: Any) -> Tensor:
    all_ = torch.ones((), dtype=torch.bool, device=part.device)
    if not isinstance(value, Tensor):
        return part.masked_fill_(all_, float(value))
    value = value.clone()  # it may be this part itself, as in x[1:] += 1
    # Not multiplied by zero: memory of torch.empty may hold nan.
    part.masked_fill_(all_, 0.0)
    return part.add_(value.reshape(value.shape[value.ndim - part.ndim :]) if value.ndim > part.ndim else value)


def _is_view(index: Any) -> bool:
    """Whether a tensor at this index is a view of its memory."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or type(part) in (int, slice) or isinstance(part, np.integer) for part in parts
    )


def _part(x: Tensor, index: Any) -> Tensor:
    """``x[index]`` for an index of numbers, slices, None and an ellipsis."""
    parts, dim = list(index if isinstance(index, tuple) else (index,)), 0
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (x.ndim - sum(part is not None for part in parts) + 1)
    for part in parts:
        if part is None:
            x, dim = x.unsqueeze(dim), dim + 1
        elif not isinstance(part, slice):
            x = x.select(dim, int(part))
        else:
            start, stop, step = part.indices(x.shape[dim])
            narrow = step == 1 and part != slice(None)
            whole = x if step == 1 else x[(slice(None),) * dim + (part,)]
            x, dim = x.narrow(dim, start, max(0, stop - start)) if narrow else whole, dim + 1
    return x
