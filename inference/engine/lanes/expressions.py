"""Tensors of a recorded model as C expressions of one element: made by `lower`, written out by `emit`.

A `Value` has the shape of the tensor for one chain. ``at(index, scope)`` adds the statements that compute one element
to the scope, and returns a C expression of type V (one float per chain) or M (one mask per chain). A view only changes
the index and a pointwise operation only combines expressions, so neither needs memory. A `Buffer` is a stored value.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Index = tuple[str, ...]
Shape = tuple[int, ...]


class Unsupported(Exception):
    """An operation that this compiler does not support; the caller uses another tier."""


class Scope:
    """Statements of one loop body, in which each element of a value is computed once."""

    def __init__(self, names: "FreshNames") -> None:
        self.names = names
        self.lines: list[str] = []
        self.known: dict[tuple[int, Index], str] = {}

    def let(self, value: "Value", index: Index, expression: str) -> str:
        """Assign ``expression``, the element of ``value`` at ``index``, to a new variable; returns its name."""
        name = self.names.fresh("t")
        self.lines.append(f"{'M' if value.mask else 'V'} {name} = {expression};")
        self.known[id(value), index] = name
        return name


class FreshNames:
    """Unique C names, and the constant arrays and buffers that the code uses."""

    def __init__(self) -> None:
        self.count = 0
        self.floats: list[Tensor] = []
        self.integers: list[Tensor] = []
        self.reads: set[Buffer] = set()
        self.stored: dict[int, Buffer] = {}  # buffers of stored expressions, by the identity of the expression
        self.filling: Buffer | None = None

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"


class Value:
    """One tensor of the recorded model."""

    shape: Shape
    mask: bool = False
    cost: int = 0  # operations to compute one element
    serial: int  # the number of the value in the order in which values are made, parents before children
    _made = itertools.count()

    def __new__(cls, *_: Any, **__: Any) -> "Value":
        value = super().__new__(cls)
        value.serial = next(cls._made)
        return value

    def at(self, index: Index, scope: Scope) -> str:
        """The C expression of one element, from the scope or a buffer if it is known there."""
        known = scope.known.get((id(self), index))
        if known is not None:
            return known
        buffer = scope.names.stored.get(id(self))
        if buffer is not None and scope.names.filling is not buffer:
            return buffer.write(index, scope)
        return self.write(index, scope)

    def write(self, index: Index, scope: Scope) -> str:
        """The C expression of one element, computed from the parents."""
        raise NotImplementedError

    def parents(self) -> Sequence["Value"]:
        """The values from which this value is computed."""
        return ()


class Constant(Value):
    """A tensor that is equal for all chains: data, or computed from data alone. Repeated elements are stored once."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tuple(tensor.shape)
        self.mask = tensor.dtype == torch.bool
        if tensor.numel():  # dimensions made by `expand` have stride 0
            tensor = tensor[tuple(slice(0, 1) if s == 0 else slice(None) for s in tensor.stride())]
        if tensor.numel() > 1 and bool((tensor == tensor.reshape(-1)[0]).all()):
            tensor = tensor[(slice(0, 1),) * tensor.ndim]
        self.tensor = tensor.contiguous()

    @property
    def uniform(self) -> float | None:
        """The value of all elements if they are equal, else None."""
        return float(self.tensor.reshape(-1)[0]) if self.tensor.numel() == 1 else None

    def write(self, index: Index, scope: Scope) -> str:
        if self.uniform is not None:
            return f"all({int(bool(self.uniform))})" if self.mask else f"fill({literal(self.uniform)})"
        array = f"K{_position(scope.names.floats, self.tensor)}[{linear(self.tensor.shape, index)}]"
        return f"(fill({array}) != 0)" if self.mask else f"fill({array})"


class Input(Value):
    """The position of the chain, or another vector passed to the function."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, shape

    def write(self, index: Index, scope: Scope) -> str:
        return f"{self.name}[{linear(self.shape, index)}]"


class Buffer(Value):
    """A stored value, with the loops that fill it (see `emit`)."""

    def __init__(self, source: "Value | Loops", shape: Shape) -> None:
        self.source, self.shape, self.name = source, shape, ""
        self.mask = isinstance(source, Value) and source.mask
        self.row: int | None = None  # the dimension that goes along the rows (see `rows`)
        self.begin: list[str] = []  # statements before the loop over the rows, if the value grows in it

    def element(self, index: Index) -> str:
        """The C expression of one element. The rows are the outermost dimension in memory."""
        shape = self.shape
        if self.row is not None:
            order = [self.row, *(d for d in range(len(shape)) if d != self.row)]
            shape, index = tuple(shape[d] for d in order), tuple(index[d] for d in order)
        return f"{self.name}[{linear(shape, index)}]"

    def write(self, index: Index, scope: Scope) -> str:
        scope.names.reads.add(self)
        element = self.element(index)
        return f"({element} != 0)" if self.mask else element

    def parents(self) -> Sequence[Value]:
        return self.source.parents()


class View(Value):
    """Another arrangement of the same elements."""

    def __init__(
        self, base: Value, shape: Shape, index: Callable[[Index], Index], reshaped: Value | None = None
    ) -> None:
        self.base, self.shape, self.index, self.mask, self.cost = base, shape, index, base.mask, base.cost
        self.reshaped = reshaped  # the base, if the view only changes its shape
        self.added: int | None = None  # the dimension of size 1 that the view adds, if it does nothing else
        self.cut: tuple[int, int] | None = None  # dimension and start of a slice with step 1

    def write(self, index: Index, scope: Scope) -> str:
        return self.base.at(self.index(index), scope)

    def parents(self) -> Sequence[Value]:
        return (self.base,)


class Taken(Value):
    """Elements at constant integer positions: ``base[..., positions, ...]``."""

    def __init__(self, base: Value, shape: Shape, index: Callable[[Index, "FreshNames"], Index]) -> None:
        self.base, self.shape, self.index, self.mask, self.cost = base, shape, index, base.mask, base.cost + 1

    def write(self, index: Index, scope: Scope) -> str:
        return self.base.at(self.index(index, scope.names), scope)

    def parents(self) -> Sequence[Value]:
        return (self.base,)


class Pointwise(Value):
    """An elementwise operation on arguments broadcast to one shape; ``form`` is a C expression of the arguments.

    ``weight`` is the cost of the operation itself.
    """

    def __init__(self, form: str, *args: Value, mask: bool = False, weight: int = 1) -> None:
        self.form, self.args, self.mask = form, args, mask
        self.shape = tuple(np.broadcast_shapes(*(a.shape for a in args)))
        self.cost = weight + sum(a.cost for a in args)

    def write(self, index: Index, scope: Scope) -> str:
        parts = [a.at(broadcast_index(a.shape, index), scope) for a in self.args]
        return scope.let(self, index, self.form.format(*parts))

    def parents(self) -> Sequence[Value]:
        return self.args


class Loops:
    """The loops that fill a buffer whose elements are not single expressions."""

    def parents(self) -> Sequence[Value]:
        """The values that the loops read."""
        raise NotImplementedError


class Reduction(Loops):
    """``combine`` over some dimensions of a value, which remain as dimensions of size 1; begins with ``start``."""

    def __init__(self, base: Value, dims: Sequence[int], start: str, combine: str) -> None:
        self.base, self.dims, self.start, self.combine = base, tuple(dims), start, combine
        self.sums = start == "fill(0)" and combine == "{0} + {1}"

    def parents(self) -> Sequence[Value]:
        return (self.base,)


class Product(Loops):
    """The matrix product of (B, M, K) and (B, K, N)."""

    def __init__(self, left: Value, right: Value) -> None:
        self.left, self.right = left, right

    def parents(self) -> Sequence[Value]:
        return (self.left, self.right)


class Pieces(Loops):
    """A concatenation: values written next to each other, each at its offset along one dimension."""

    def __init__(self, pieces: Sequence[tuple[Value, int]], dim: int) -> None:
        self.pieces, self.dim = pieces, dim

    def between(self, start: int, end: int) -> list[tuple[Value, int]]:
        """The pieces that have a part between two positions, with their offsets."""
        first = bisect.bisect_right(self.pieces, start, key=_offset) - 1
        return list(self.pieces[first : bisect.bisect_left(self.pieces, end, key=_offset)])

    def parents(self) -> Sequence[Value]:
        return [value for value, _ in self.pieces]


def _offset(piece: tuple[Value, int]) -> int:
    return piece[1]


class Factored(Loops):
    """The lower Cholesky factors of matrices (..., n, n)."""

    def __init__(self, base: Value) -> None:
        self.base = base

    def parents(self) -> Sequence[Value]:
        return (self.base,)


class Solved(Loops):
    """The solutions (..., n, m) of triangular systems; ``matrix`` (..., n, n) is stored."""

    def __init__(self, matrix: Buffer, right: Value, upper: bool, unit: bool) -> None:
        self.matrix, self.right, self.upper, self.unit = matrix, right, upper, unit

    def parents(self) -> Sequence[Value]:
        return (self.matrix, self.right)


class Cumulative(Loops):
    """The cumulative sum or product along one dimension."""

    def __init__(self, base: Value, dim: int, start: int = 0, sign: str = "+") -> None:
        self.base, self.dim, self.start, self.sign = base, dim, start, sign

    def parents(self) -> Sequence[Value]:
        return (self.base,)


class Scatter(Loops):
    """``base`` with ``source`` written or added at constant flat positions."""

    def __init__(self, base: Value, source: Value, positions: Tensor, accumulate: bool) -> None:
        self.base, self.source, self.positions, self.accumulate = base, source, positions, accumulate

    def parents(self) -> Sequence[Value]:
        return (self.base, self.source)


def literal(x: float) -> str:
    """A number in C."""
    if math.isnan(x):
        return "NOT_A_NUMBER"
    if math.isinf(x):
        return "INF" if x > 0 else "-INF"
    return f"(S){x!r}"


def integers_at(names: FreshNames, tensor: Tensor, index: Index) -> str:
    """The C expression of one element of a constant integer tensor."""
    if tensor.numel() == 1:
        return str(int(tensor.reshape(-1)[0]))
    return f"J{_position(names.integers, tensor)}[{linear(tuple(tensor.shape), index)}]"


def _position(arrays: list[Tensor], tensor: Tensor) -> int:
    """The position of ``tensor`` in ``arrays``, where it is added if it is new."""
    for position, known in enumerate(arrays):
        if known is tensor:
            return position
    arrays.append(tensor)
    return len(arrays) - 1


def linear(shape: Sequence[int], index: Index) -> str:
    """The row-major position of an index, as a C expression."""
    terms, stride = [], 1
    for size, i in reversed(list(zip(shape, index, strict=True))):
        if size != 1 and i != "0":
            terms.append(i if stride == 1 else f"{stride}*{i}")
        stride *= size
    if not terms:
        return "0"
    return terms[0] if len(terms) == 1 else "(" + "+".join(reversed(terms)) + ")"


def broadcast_index(shape: Shape, index: Index) -> Index:
    """The index into an argument of ``shape`` for the element of the broadcast result at ``index``."""
    tail = index[len(index) - len(shape) :]
    return tuple("0" if size == 1 else i for size, i in zip(shape, tail, strict=True))


def reshaped(base: Value, shape: Shape) -> Value:
    """A view of ``base`` with another shape of the same number of elements, row-major."""
    if isinstance(base, View) and base.reshaped is not None:
        base = base.reshaped
    if shape == base.shape:
        return base
    old = [d for d, s in enumerate(base.shape) if s != 1]
    groups: list[tuple[list[int], list[int]]] = []
    new = [d for d, s in enumerate(shape) if s != 1]
    i = j = 0
    while i < len(old) or j < len(new):  # the smallest groups of dimensions with equal numbers of elements
        ins, outs = [old[i]], [new[j]]
        i, j = i + 1, j + 1
        left, right = base.shape[ins[0]], shape[outs[0]]
        while left != right:
            if left < right:
                ins.append(old[i])
                left *= base.shape[old[i]]
                i += 1
            else:
                outs.append(new[j])
                right *= shape[new[j]]
                j += 1
        groups.append((ins, outs))

    def index(out: Index) -> Index:
        result = ["0"] * len(base.shape)
        for ins, outs in groups:
            position = linear([shape[d] for d in outs], tuple(out[d] for d in outs))
            stride = 1
            for number, d in enumerate(reversed(ins)):
                whole = position if stride == 1 else f"({position}/{stride})"
                last = number == len(ins) - 1
                result[d] = position if position == "0" else (whole if last else f"({whole}%{base.shape[d]})")
                stride *= base.shape[d]
        return tuple(result)

    return View(base, shape, index, reshaped=base)
