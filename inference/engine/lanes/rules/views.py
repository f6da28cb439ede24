"""Rules of operations that only rearrange elements: nothing is computed or stored."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from posterity.inference.engine.lanes.expressions import Buffer, Constant, Index, Pieces, Value, View, reshaped
from posterity.inference.engine.lanes.rules.registry import expanded, rule


@rule("view")
def _view(x: Value, shape: Sequence[int], *_: Any) -> Value:
    total, sizes = math.prod(x.shape), list(shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = total // max(1, -math.prod(sizes))
    return reshaped(x, tuple(sizes))


@rule("expand")
def _expand(x: Value, sizes: Sequence[int], implicit: bool = False) -> Value:
    lead = len(sizes) - len(x.shape)
    shape = tuple(x.shape[d - lead] if s == -1 else s for d, s in enumerate(sizes))
    return expanded(x, shape)


@rule("permute")
def _permute(x: Value, dims: Sequence[int]) -> Value:
    order = [d % len(x.shape) for d in dims]

    def index(i: Index) -> Index:
        result = [""] * len(order)
        for position, d in enumerate(order):
            result[d] = i[position]
        return tuple(result)

    return View(x, tuple(x.shape[d] for d in order), index)


@rule("unsqueeze")
def unsqueeze(x: Value, dim: int) -> Value:
    """``x`` with a new dimension of size 1."""
    dim = dim % (len(x.shape) + 1)
    view = View(x, (*x.shape[:dim], 1, *x.shape[dim:]), lambda i: (*i[:dim], *i[dim + 1 :]))
    view.added = dim
    return view


@rule("squeeze")
def _squeeze(x: Value, dims: Any = None) -> Value:
    chosen = range(len(x.shape)) if dims is None else ([dims] if isinstance(dims, int) else dims)
    removed = {d % len(x.shape) for d in chosen if x.shape[d] == 1} if x.shape else set()
    return reshaped(x, tuple(s for d, s in enumerate(x.shape) if d not in removed))


@rule("select")
def select(x: Value, dim: int, position: int) -> Value:
    """The slice of ``x`` at one position of a dimension."""
    dim = dim % len(x.shape)
    position = position % x.shape[dim]
    x, position = _inside(x, dim, position, position + 1)
    if isinstance(x, View) and x.added == dim:
        return x.base
    at = str(position)
    return View(x, (*x.shape[:dim], *x.shape[dim + 1 :]), lambda i: (*i[:dim], at, *i[dim:]))


@rule("unbind")
def _unbind(x: Value, dim: int = 0) -> list[Value]:
    return [select(x, dim, position) for position in range(x.shape[dim % len(x.shape)])]


@rule("slice")
def sliced(x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """``x[start:end:step]`` along one dimension."""
    dim = dim % len(x.shape)
    span = range(x.shape[dim])[slice(start, end, step)]
    if len(span) == x.shape[dim]:
        return x
    if isinstance(x, Constant):
        return Constant(x.tensor.expand(x.shape)[(slice(None),) * dim + (slice(start, end, step),)])
    if step == 1 and len(span):
        x, first = _inside(x, dim, span.start, span.stop)
        span = range(first, first + len(span))
        if len(span) == x.shape[dim]:
            return x

    def index(i: Index) -> Index:
        moved = i[dim] if step == 1 else f"{step}*{i[dim]}"
        return (*i[:dim], f"({moved}+{span.start})" if span.start else moved, *i[dim + 1 :])

    view = View(x, (*x.shape[:dim], len(span), *x.shape[dim + 1 :]), index)
    view.cut = (dim, span.start) if step == 1 else None
    return view


def _inside(x: Value, dim: int, start: int, end: int) -> tuple[Value, int]:
    """The innermost slice or piece of a concatenation with all elements between two positions, and their place in it.

    Slices of slices at every step of a loop would otherwise lie within each other.
    """
    while True:
        source = x.source if isinstance(x, Buffer) else None
        if isinstance(x, View) and x.cut is not None and x.cut[0] == dim:
            first = x.cut[1]
            x, start, end = x.base, start + first, end + first
        elif isinstance(source, Pieces) and source.dim == dim and len(pieces := source.between(start, end)) == 1:
            x, start, end = pieces[0][0], start - pieces[0][1], end - pieces[0][1]
        else:
            return x, start


@rule("split_with_sizes")
def _split_sizes(x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [sliced(x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


@rule("flip")
def _flip(x: Value, dims: Sequence[int]) -> Value:
    turned = {d % len(x.shape) for d in dims}
    return View(x, x.shape, lambda i: tuple(f"({x.shape[d] - 1}-{v})" if d in turned else v for d, v in enumerate(i)))


@rule("diagonal")
def _diagonal(x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    n = len(x.shape)
    a, b = dim1 % n, dim2 % n
    rest = [d for d in range(n) if d not in (a, b)]
    size = min(x.shape[a] + min(offset, 0), x.shape[b] - max(offset, 0))

    def index(i: Index) -> Index:
        result = [""] * n
        for position, d in enumerate(rest):
            result[d] = i[position]
        result[a] = f"({i[-1]}+{max(-offset, 0)})" if offset < 0 else i[-1]
        result[b] = f"({i[-1]}+{offset})" if offset > 0 else i[-1]
        return tuple(result)

    return View(x, (*(x.shape[d] for d in rest), size), index)
