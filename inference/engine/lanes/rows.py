"""Which values of a model go along its rows, so that blocks of rows can be computed one after another.

With many rows the arrays of a whole layer leave the cache. A value *goes along the rows* if its element at row i reads
other such values at row i alone. All values of this kind are computed block by block, forward and backward, while sums
over the rows (the log density, the gradients of weights) grow. What reads such a value in another way, for example at
another row, waits until the loop over all blocks is over; further values along the rows are then computed in another
loop.

So the code of a model is: plain statements, loop 0 over blocks of rows, plain statements, loop 1, ...
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Constant,
    Cumulative,
    FreshNames,
    Input,
    Pieces,
    Pointwise,
    Product,
    Reduction,
    Scatter,
    Taken,
    Value,
    View,
)

FEWEST = 24  # rows from which blocks are worth their loop
MOST = 8  # sizes that are tried as the number of rows


@dataclass(frozen=True)
class Place:
    """Where a value is computed.

    - ``row``: the dimension of the value that goes along the rows; None for other values.
    - ``time``: the loop in which it is computed if it goes along the rows or ``grows`` in a loop; otherwise the number
      of loops before it.
    - ``grows``: whether it is a sum over the rows.
    - ``free``: dimensions that can go along the rows, of a value that need not: it can be read anywhere.
    """

    row: int | None = None
    time: int = 0
    grows: bool = False
    free: frozenset[int] = frozenset()

    @property
    def ready(self) -> int:
        """The number of loops that are over when it can be read anywhere."""
        return self.time + (self.row is not None or self.grows)

    @property
    def in_loop(self) -> bool:
        return self.row is not None or self.grows


def place_values(roots: Sequence[Value]) -> tuple[dict[int, Place], int]:
    """The `Place` of every value under ``roots``, by identity, and the number of rows; 0 if nothing goes along rows.

    Of several sizes that may be the number of rows, the one along which most elements go is taken.
    """
    values = ancestors(roots)
    best: tuple[int, dict[int, Place], int] = (0, {id(value): Place() for value in values}, 0)
    for extent in _extents(values):
        places: dict[int, Place] = {}
        for value in values:
            places[id(value)] = _Placing(places, extent).place(value)
        elements = sum(math.prod(v.shape) for v in values if not isinstance(v, View) and places[id(v)].row is not None)
        best = max(best, (elements, places, extent), key=lambda found: found[0])
    return best[1:]


def ancestors(roots: Sequence[Value]) -> list[Value]:
    """All values under ``roots``, each after its parents."""
    done: set[int] = set()
    order: list[Value] = []
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        value, visited = stack.pop()
        if visited:
            order.append(value)
        elif id(value) not in done:
            done.add(id(value))
            stack.append((value, True))
            stack.extend((parent, False) for parent in value.parents() if id(parent) not in done)
    return order


def _extents(values: Iterable[Value]) -> list[int]:
    """Sizes that may be the number of rows: those of the data, the largest first."""
    sizes = {
        size
        for value in values
        if isinstance(value, Constant | Taken)
        for size in value.shape
        if size >= FEWEST
    }  # fmt: skip
    return sorted(sizes, reverse=True)[:MOST]


class _Placing:
    """The rules of `place_values` for one value, whose parents have their places."""

    def __init__(self, places: dict[int, Place], extent: int) -> None:
        self.places, self.extent = places, extent

    def place(self, value: Value) -> Place:
        if isinstance(value, Constant):
            return Place(free=self._rows(value.shape))
        if isinstance(value, Input):
            return Place()
        if isinstance(value, View | Taken):
            return self._viewed(value)
        if isinstance(value, Pointwise):
            return self._pointwise(value)
        source: Any = value.source if isinstance(value, Buffer) else None
        if isinstance(source, Value):
            return self.places.setdefault(id(source), self.place(source))
        if isinstance(source, Reduction):
            return self._reduced(source)
        if isinstance(source, Product):
            return self._product(source)
        if isinstance(source, Pieces):
            parts = [(part, part.shape) for part, _ in source.pieces]
            return self._along(parts, value.shape, without=source.dim)
        if isinstance(source, Cumulative):
            return self._along([(source.base, source.base.shape)], value.shape, without=source.dim)
        if isinstance(source, Scatter):
            return self._scattered(source)
        return self._after(source.parents())

    def _rows(self, shape: Sequence[int]) -> frozenset[int]:
        return frozenset(d for d, size in enumerate(shape) if size == self.extent)

    def _after(self, parents: Iterable[Value]) -> Place:
        """A value that waits for the whole of its parents."""
        return Place(time=max((self.places[id(p)].ready for p in parents), default=0))

    def _time(self, parents: Iterable[Value]) -> int:
        """The first loop for a value that reads its parents at its own row."""
        places = [self.places[id(p)] for p in parents]
        return max((place.time if place.row is not None else place.ready for place in places), default=0)

    def _viewed(self, value: View | Taken) -> Place:
        base = self.places[id(value.base)]
        marks = tuple(f"@{d}@" for d in range(len(value.shape)))
        index = value.index(marks) if isinstance(value, View) else value.index(marks, FreshNames())
        whole = self._rows(value.shape)  # a slice is no longer as long as the rows
        if base.row is not None:
            row = marks.index(index[base.row]) if index[base.row] in marks else None
            return Place(row, base.time) if row in whole else Place(time=base.ready)
        free = {marks.index(index[d]) for d in base.free if index[d] in marks}
        if isinstance(value, Taken):  # positions that are data
            free |= {d for d in whole if any(marks[d] in i and marks[d] != i for i in index)}
        return Place(time=base.ready, free=whole & free)

    def _pointwise(self, value: Pointwise) -> Place:
        return self._along([(arg, arg.shape) for arg in value.args], value.shape)

    def _along(
        self, parents: Sequence[tuple[Value, Sequence[int]]], shape: Sequence[int], without: int | None = None
    ) -> Place:
        """A value of ``shape`` that reads its parents, broadcast, at its own index, except along ``without``."""
        values = [parent for parent, _ in parents]
        rows, free = set(), set()
        for parent, size in parents:
            place, lead = self.places[id(parent)], len(shape) - len(size)
            if place.row is not None:
                rows.add(place.row + lead)
            free |= {d + lead for d in place.free}
        rows = rows or (free if len(free) == 1 else set())
        if len(rows) != 1 or without in rows:
            return self._after(values)
        return Place(rows.pop(), self._time(values))

    def _reduced(self, source: Reduction) -> Place:
        base = self.places[id(source.base)]
        if base.row is None:
            return Place(time=base.ready)
        if base.row in source.dims:
            return Place(time=base.time, grows=True)
        return Place(base.row, base.time)

    def _product(self, source: Product) -> Place:
        parents = source.parents()
        (left, right) = (self.places[id(p)] for p in parents)
        if left.row is None and right.row is None:
            # Data times weights: the rows of the data.
            if 2 in left.free and 1 in right.free:
                return Place(time=self._time(parents), grows=True)
            rows = (left.free - {2}) | (right.free - {1})
            return Place(min(rows), self._time(parents)) if len(rows) == 1 else self._after(parents)
        if left.row is not None and right.row is not None:
            if left.row == right.row == 0:
                return Place(0, self._time(parents))
            inner = (left.row, right.row) == (2, 1)
            return Place(time=self._time(parents), grows=True) if inner else self._after(parents)
        if left.row == 2 or right.row == 1:
            return Place(time=self._time(parents), grows=True)
        return Place(left.row if left.row is not None else right.row, self._time(parents))

    def _scattered(self, source: Scatter) -> Place:
        base, values = self.places[id(source.base)], self.places[id(source.source)]
        if values.row is None and base.row is None:
            return self._after(source.parents())
        rows = {base.row} if base.row is not None else base.free
        if values.row is not None and len(rows) == 1:
            (row,) = rows
            stride = math.prod(source.base.shape[row + 1 :])
            places = torch.arange(self.extent).reshape(-1, *[1] * (source.positions.ndim - values.row - 1))
            if bool((source.positions // stride % self.extent == places).all()):
                return Place(row, self._time(source.parents()))
        if base.row is None and values.row is not None:
            return Place(time=self._time(source.parents()), grows=True)
        return self._after(source.parents())
