"""Rules of operations that join tensors, or write one into a copy of a larger tensor."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from posterity.inference.engine.lanes.expressions import Buffer, Constant, Pieces, Scatter, Value
from posterity.inference.engine.lanes.rules.registry import as_value, expanded, floats, rule
from posterity.inference.engine.lanes.rules.views import sliced


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
    around = [(x, 0, span.start), (source, 0, len(span)), (x, span.start + len(span), x.shape[dim])]
    return cat([sliced(v, dim, s, e) for v, s, e in around if e > s], dim)


@rule("diagonal_scatter")
def _diagonal_scatter(x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    where = torch.arange(math.prod(x.shape)).reshape(x.shape).diagonal(offset, dim1, dim2).contiguous()
    return Buffer(Scatter(x, expanded(source, tuple(where.shape)), where, False), x.shape)
