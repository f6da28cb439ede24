"""Rules of operations that join tensors, or write one into a copy of a larger tensor."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from posterity.inference.engine.lanes.expressions import Buffer, Constant, Pieces, Scatter, Value
from posterity.inference.engine.lanes.rules.registry import as_value, expanded, floats, is_constant, rule
from posterity.inference.engine.lanes.rules.views import sliced, unsqueeze


@rule("cat")
def cat(values: Sequence[Any], dim: int = 0) -> Value:
    """The values joined along one dimension; empty tensors are left out, as in torch."""
    parts = [v for v in (floats(as_value(v)) for v in values) if v.shape != (0,)]
    dim = dim % len(parts[0].shape)
    pieces, offset = [], 0
    for part in parts:
        pieces.append((part, offset))
        offset += part.shape[dim]
    shape = tuple(offset if d == dim else s for d, s in enumerate(parts[0].shape))
    return Buffer(Pieces(pieces, dim), shape)


@rule("constant_pad_nd")
def _pad(x: Value, pad: Sequence[int], value: float = 0) -> Value:
    for number in range(len(pad) // 2):
        dim, before, after = len(x.shape) - 1 - number, pad[2 * number], pad[2 * number + 1]
        if before < 0 or after < 0:
            x = sliced(x, dim, max(0, -before), x.shape[dim] + min(0, after))
        around = [
            Constant(torch.tensor(float(value)).expand(*x.shape[:dim], n, *x.shape[dim + 1 :]))
            for n in (max(0, before), max(0, after))
        ]
        parts = [around[0]] * (before > 0) + [x] + [around[1]] * (after > 0)
        x = parts[0] if len(parts) == 1 else cat(parts, dim)
    return x


@rule("copy")
def _copy(x: Any, source: Any, *_: Any) -> Value:
    return expanded(floats(as_value(source)), as_value(x).shape)


@rule("slice_scatter")
def _slice_scatter(
    x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    dim = dim % len(x.shape)
    span = range(x.shape[dim])[slice(start, end, step)]
    if step != 1:
        flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
        where = flat[(slice(None),) * dim + (slice(start, end, step),)].contiguous()
        return Buffer(Scatter(x, expanded(source, tuple(where.shape)), where, False), x.shape)
    return written(x, dim, span.start, expanded(source, (*x.shape[:dim], len(span), *x.shape[dim + 1 :])))


@rule("select_scatter")
def _select_scatter(x: Value, source: Value, dim: int, position: int) -> Value:
    dim = dim % len(x.shape)
    slice_ = unsqueeze(expanded(source, (*x.shape[:dim], *x.shape[dim + 1 :])), dim)
    return written(x, dim, position % x.shape[dim], slice_)


def written(x: Value, dim: int, start: int, part: Value) -> Value:
    """``x`` with ``part`` in the place of its elements from ``start`` along one dimension.

    The result has the pieces of ``x`` if that is a concatenation along this dimension, so that one written to at every
    step of a loop remains one concatenation.
    """
    x, end = floats(x), start + part.shape[dim]
    pieces = [*_parts(x, dim, 0, start), (floats(part), start), *_parts(x, dim, end, x.shape[dim])]
    return Buffer(Pieces(pieces, dim), x.shape) if len(pieces) > 1 else pieces[0][0]


def joined(a: Value, b: Value, add: Callable[[Value, Value], Value]) -> Value | None:
    """The sum of two concatenations along the same dimension as one; None for any other values.

    Gradients of the parts of a vector are such concatenations, with zeros around.
    """
    sources = [value.source if isinstance(value, Buffer) else None for value in (a, b)]
    if a.shape != b.shape or not all(isinstance(source, Pieces) for source in sources):
        return None
    one, two = (_not_zero(source) for source in sources)  # type: ignore[arg-type]
    dim = sources[0].dim  # type: ignore[union-attr]
    if dim != sources[1].dim:  # type: ignore[union-attr]
        return None
    if len(one) < len(two):
        a, two = b, one
    pieces, done = [], 0
    for part, start in two:
        end = start + part.shape[dim]
        pieces += _parts(a, dim, done, start)
        for other, place in _parts(a, dim, start, end):
            same = sliced(part, dim, place - start, place - start + other.shape[dim])
            pieces.append((add(other, same), place))
        done = end
    return Buffer(Pieces([*pieces, *_parts(a, dim, done, a.shape[dim])], dim), a.shape)


def _not_zero(source: Pieces) -> list[tuple[Value, int]]:
    return [(part, start) for part, start in source.pieces if not is_constant(part, 0)]


def _parts(x: Value, dim: int, start: int, end: int) -> list[tuple[Value, int]]:
    """The pieces of ``x`` between two positions, cut there, with their offsets; a value of one piece as that."""
    if start >= end:
        return []
    source = x.source if isinstance(x, Buffer) else None
    if not isinstance(source, Pieces) or source.dim != dim:
        return [(sliced(x, dim, start, end), start)]
    found = source.between(start, end)
    value, offset = found[-1]
    if offset + value.shape[dim] > end:
        found[-1] = sliced(value, dim, 0, end - offset), offset
    value, offset = found[0]
    if offset < start:
        found[0] = sliced(value, dim, start - offset, value.shape[dim]), start
    return found


@rule("diagonal_scatter")
def _diagonal_scatter(x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    where = torch.arange(math.prod(x.shape)).reshape(x.shape).diagonal(offset, dim1, dim2).contiguous()
    return Buffer(Scatter(x, expanded(source, tuple(where.shape)), where, False), x.shape)
