"""Rules of indexing with constant integers. Positions that depend on the chain raise `Unsupported`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Constant,
    FreshNames,
    Index,
    Scatter,
    Taken,
    Unsupported,
    Value,
    integers_at,
)
from posterity.inference.engine.lanes.rules.registry import as_value, expanded, rule
from posterity.inference.engine.lanes.rules.views import sliced


def _positions(x: Any) -> Tensor:
    """Constant integers as a tensor; `Unsupported` for positions that depend on the chain."""
    if isinstance(x, Constant):
        x = x.tensor.expand(x.shape)
    if not isinstance(x, Tensor):
        raise Unsupported("positions that depend on a latent value")
    return x


@rule("index")
def _index(x: Value, indices: Sequence[Any]) -> Value:
    first, tensors, count = _leading(x, indices)
    shape = (*x.shape[:first], *tensors[0].shape, *x.shape[first + count :])
    depth = tensors[0].ndim

    def index(i: Index, names: FreshNames) -> Index:
        place = i[first : first + depth]
        positions = tuple(integers_at(names, t, place) for t in tensors)
        return (*i[:first], *positions, *i[first + depth :])

    return Taken(x, tuple(shape), index)


def _leading(x: Value, indices: Sequence[Any]) -> tuple[int, list[Tensor], int]:
    """The first indexed dimension, the broadcast positions of adjacent indices, and the number of dimensions."""
    given = [d for d, i in enumerate(indices) if i is not None]
    if given != list(range(given[0], given[0] + len(given))):
        raise Unsupported("indices that are not adjacent")
    positions = [_positions(indices[d]) for d in given]
    if any(t.dtype == torch.bool for t in positions):
        if len(positions) > 1:
            raise Unsupported("a mask among indices")
        positions = list(positions[0].nonzero().unbind(-1))
        given = list(range(given[0], given[0] + len(positions)))
    tensors = [t.contiguous() for t in torch.broadcast_tensors(*positions)]
    return given[0], [torch.where(t < 0, t + x.shape[d], t) for t, d in zip(tensors, given, strict=True)], len(given)


@rule("index_put")
def _index_put(x: Value, indices: Sequence[Any], source: Value, accumulate: bool = False) -> Value:
    first, tensors, count = _leading(x, indices)
    flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
    where = flat[(slice(None),) * first + tuple(tensors)]
    if count == 0:
        raise Unsupported("an empty index")
    return Buffer(Scatter(x, expanded(source, tuple(where.shape)), where.contiguous(), accumulate), x.shape)


@rule("gather")
def _gather(x: Value, dim: int, index: Any, **_: Any) -> Value:
    positions, d = _positions(index).contiguous(), dim % len(x.shape)
    return Taken(x, tuple(positions.shape), lambda i, names: (*i[:d], integers_at(names, positions, i), *i[d + 1 :]))


@rule("index_select")
def _index_select(x: Value, dim: int, index: Any) -> Value:
    return _index(x, [None] * (dim % len(x.shape)) + [index])


@rule("embedding")
def _embedding(x: Value, index: Any, *_: Any) -> Value:
    return _index(x, [index])


@rule("scatter_add")
def _scatter_add(x: Value, dim: int, index: Any, source: Value) -> Value:
    return _scattered(x, dim, index, source, True)


@rule("scatter")
def _scatter(x: Value, dim: int, index: Any, source: Any) -> Value:
    return _scattered(x, dim, index, as_value(source), False)


def _scattered(x: Value, dim: int, index: Any, source: Value, accumulate: bool) -> Value:
    positions = _positions(index)
    flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
    where = flat.gather(dim, positions) if all(a <= b for a, b in zip(positions.shape, x.shape, strict=True)) else None
    if where is None:
        grids = list(torch.meshgrid(*(torch.arange(s) for s in positions.shape), indexing="ij"))
        grids[dim] = positions
        where = flat[tuple(grids)]
    cut: Value = source
    for d, size in enumerate(positions.shape):
        cut = sliced(cut, d, 0, size) if cut.shape else cut
    return Buffer(Scatter(x, expanded(cut, tuple(where.shape)), where.contiguous(), accumulate), x.shape)
