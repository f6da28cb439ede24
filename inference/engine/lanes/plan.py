"""Decisions before code is written: which values are stored, in which order, and where in memory.

Stored are results of reductions and products, the outputs, and expressions that are read more than once or by a
larger value. All other expressions are computed at each use.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    FreshNames,
    Index,
    Pieces,
    Pointwise,
    Product,
    Scatter,
    Scope,
    Shape,
    Taken,
    Value,
    View,
)
from posterity.inference.engine.lanes.rows import Place, ancestors

INLINE = 2  # cost up to which an expression is repeated instead of stored
DEEPEST = 40  # largest number of expressions within each other
BRANCH = 8  # by how much a chain is deeper than what branches off


def find_stored(roots: Sequence[Value]) -> tuple[dict[int, int], list[Value]]:
    """How often each value is read, by identity, and the expressions worth storing."""
    uses: dict[int, int] = {}
    larger: set[int] = set()
    factors: set[int] = set()
    seen: dict[int, Value] = {}
    stack: list[Value] = list(roots)
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        for parent in value.parents():
            uses[id(parent)] = uses.get(id(parent), 0) + 1
            once = isinstance(value, Buffer) and isinstance(value.source, Pieces | Scatter)
            if math.prod(parent.shape) < math.prod(value.shape) and not once:
                larger.add(id(parent))
            stack.append(parent)
    for value in seen.values():
        # The elements of a factor of a product are read many times, also through views.
        for parent in value.parents() if isinstance(value, Buffer) and isinstance(value.source, Product) else ():
            factors.add(id(_base(parent)))
        if isinstance(value, View | Taken) and id(value) in larger:
            larger.add(id(_base(value)))
    order = ancestors(roots)
    stored = {
        id(value)
        for value in order
        if isinstance(value, Pointwise)
        and (
            (uses.get(id(value), 0) > 1 and value.cost > INLINE)
            or (id(value) in larger and value.cost > 1)
            or id(value) in factors
        )
    }
    stored |= _long_chains(order, stored)
    return uses, [value for value in order if id(value) in stored]


def _long_chains(order: Sequence[Value], stored: set[int]) -> set[int]:
    """Expressions to store besides ``stored``, so that none of the others is deeper than `DEEPEST`.

    A sum over the steps of a loop is one expression within another for each step. Every link of such a chain is stored:
    the statements of all steps are then alike (see `rolling`).
    """
    depths = _depths(order, stored)
    heights: dict[int, int] = {}
    links: set[int] = set()
    for value in reversed(order):
        height = 0 if isinstance(value, Buffer) or id(value) in stored else 1 + heights.get(id(value), 0)
        below = sorted((depths[id(p)] for p in value.parents()), reverse=True)
        for parent in value.parents():
            heights[id(parent)] = max(height, heights.get(id(parent), 0))
            deepest = depths[id(parent)] == below[0] and (len(below) < 2 or below[0] > below[1] + BRANCH)
            if isinstance(parent, Pointwise) and deepest and depths[id(parent)] + heights[id(parent)] > DEEPEST:
                links.add(id(parent))
    depths = _depths(order, stored | links)
    return links | {id(v) for v in order if isinstance(v, Pointwise) and depths[id(v)] > DEEPEST}


def _depths(order: Sequence[Value], stored: set[int]) -> dict[int, int]:
    """How many expressions lie within each other, from the last stored one."""
    depths: dict[int, int] = {}
    for value in order:
        inner = [0 if isinstance(p, Buffer) or id(p) in stored else depths[id(p)] for p in value.parents()]
        depths[id(value)] = 1 + max(inner, default=0)
    return depths


def _base(value: Value) -> Value:
    """The value under all views."""
    while isinstance(value, View | Taken):
        value = value.base
    return value


def find_epilogues(
    order: Sequence[Buffer], uses: dict[int, int], names: FreshNames, places: Mapping[int, Place] | None = None
) -> dict[int, Buffer]:
    """Products with a single, elementwise reader, by the identity of the reader's buffer.

    Such a reader is applied to each tile of the product before the tile is stored, so it has the place of the product.
    """
    places = places or {}
    fused: dict[int, Buffer] = {}
    for buffer in order:
        if not isinstance(buffer.source, Pointwise) or buffer.mask:
            continue
        products, stack = [], list(buffer.source.parents())
        while stack:
            value = stack.pop()
            if uses.get(id(value), 0) > 1 or id(value) in names.stored:
                continue
            if isinstance(value, Buffer):
                if isinstance(value.source, Product) and math.prod(value.shape) == math.prod(buffer.shape):
                    products.append(value)
                continue
            stack.extend(value.parents())
        if (
            len(products) == 1
            and _same_place(buffer, products[0], places)
            and _same_elements(buffer, products[0], names)
        ):
            fused[id(buffer)] = products[0]
    return fused


def _same_place(buffer: Buffer, product: Buffer, places: Mapping[int, Place]) -> bool:
    """Whether both are computed at the same time, along the same rows."""
    one, two = (places.get(id(b), Place()) for b in (buffer, product))
    rows = [p.row if p.row is None else p.row - len(b.shape) for p, b in ((one, buffer), (two, product))]
    return one.time == two.time and rows[0] == rows[1] and not one.grows and not two.grows


def _same_elements(buffer: Buffer, product: Buffer, names: FreshNames) -> bool:
    """Whether each element of the expression reads only the element of the product at the same position."""
    reads, names.reads, names.filling = names.reads, set(), buffer
    index = product_index(product, "b", "m", "n")
    scope = Scope(names)
    scope.known[id(product), index] = "c"
    if len(buffer.shape) in (2, 3) and isinstance(buffer.source, Value):
        buffer.source.at(drop_batch(index, buffer.shape), scope)
        alone = product not in names.reads
    else:
        alone = False
    names.reads = reads
    return alone


def product_index(product: Buffer, b: str, m: str, n: str) -> Index:
    """The index of an element of a product; "0" along dimensions of size 1."""
    return tuple("0" if size == 1 else i for size, i in zip(product.shape, (b, m, n), strict=True))


def drop_batch(index: Index, shape: Shape) -> Index:
    """The index of a product (batch, m, n) without the batch dimension if the expression has none."""
    return index[len(index) - len(shape) :]


def schedule(roots: Sequence[Buffer], names: FreshNames) -> list[Buffer]:
    """All buffers in an order in which each is filled before it is read: that of the recording."""
    found: dict[int, Buffer] = {}
    for value in ancestors(roots):
        buffer = value if isinstance(value, Buffer) else names.stored.get(id(value))
        if buffer is not None:
            found[id(buffer)] = buffer
    return sorted(found.values(), key=_when)


def _when(buffer: Buffer) -> tuple[int, int]:
    """The place of a buffer in the recording; that of a copy is behind its source."""
    source = buffer.source
    return (source.serial, int(isinstance(source, Buffer))) if isinstance(source, Value) else (buffer.serial, 0)


def allocate(
    steps: Sequence[Sequence[Buffer]], reads: Sequence[set[Buffer]], outputs: set[int], size: Callable[[Buffer], int]
) -> tuple[dict[int, int], int]:
    """Offset of each buffer in one pool, by first fit, and the size of the pool.

    The memory of a buffer is free after the last step that reads it, except that of ``outputs``.

    Args:
        steps: the buffers that each step fills.
        reads: the buffers that each step reads.
        outputs: identities of buffers that are read at the end.
        size: the size of a buffer.
    """
    last = {id(buffer): number for number, buffers in enumerate(steps) for buffer in buffers}
    for number, used in enumerate(reads):
        for buffer in used:
            last[id(buffer)] = number
    for key in outputs:
        last[key] = len(steps)
    live: list[tuple[int, int, int]] = []  # offset, size, last, by offset
    offsets, total = {}, 0
    for number, buffers in enumerate(steps):
        live = [entry for entry in live if entry[2] >= number]
        for buffer in buffers:
            length, offset, at = max(1, size(buffer)), 0, 0
            for at, (start, taken, _) in enumerate(live):  # noqa: B007
                if offset + length <= start:
                    break
                offset = max(offset, start + taken)
            else:
                at = len(live)
            offsets[id(buffer)] = offset
            live.insert(at, (offset, length, last[id(buffer)]))
            total = max(total, offset + length)
    return offsets, total


@dataclass
class Step:
    """One step of the code: the statements of one buffer, or a loop over blocks of rows with several."""

    buffers: list[Buffer]
    loop: bool


def in_steps(order: Sequence[Buffer], places: Mapping[int, Place]) -> list[Step]:
    """The buffers in the order of the code (see `rows`)."""
    steps: list[Step] = []
    times = sorted({places[id(b)].time for b in order})
    for time in times:
        now = [b for b in order if places[id(b)].time == time]
        steps += [Step([b], False) for b in now if not places[id(b)].in_loop]
        inside = [b for b in now if places[id(b)].in_loop]
        steps += [Step(inside, True)] if inside else []
    return steps
