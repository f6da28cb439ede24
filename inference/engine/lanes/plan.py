"""Decisions before code is written: which values are stored, in which order, and where in memory.

Stored are results of reductions and products, the outputs, and expressions that are read more than once or by a
larger value. All other expressions are computed at each use.
"""

import math
from collections.abc import Sequence

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    FreshNames,
    Index,
    Pointwise,
    Product,
    Scope,
    Shape,
    Taken,
    Value,
    View,
)

INLINE = 2  # cost up to which an expression is repeated instead of stored


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
            if math.prod(parent.shape) < math.prod(value.shape):
                larger.add(id(parent))
            stack.append(parent)
    for value in seen.values():
        # The elements of a factor of a product are read many times, also through views.
        for parent in value.parents() if isinstance(value, Buffer) and isinstance(value.source, Product) else ():
            factors.add(id(_base(parent)))
        if isinstance(value, View | Taken) and id(value) in larger:
            larger.add(id(_base(value)))
    stored: list[Value] = []
    for key, value in seen.items():
        often = uses.get(key, 0) > 1 and value.cost > INLINE
        if isinstance(value, Pointwise) and (often or (key in larger and value.cost > 1) or key in factors):
            stored.append(value)
    return uses, stored


def _base(value: Value) -> Value:
    """The value under all views."""
    while isinstance(value, View | Taken):
        value = value.base
    return value


def find_epilogues(order: Sequence[Buffer], uses: dict[int, int], names: FreshNames) -> dict[int, Buffer]:
    """Products with a single, elementwise reader, by the identity of the reader's buffer.

    Such a reader is applied to each tile of the product before the tile is stored.
    """
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
        if len(products) == 1 and _same_elements(buffer, products[0], names):
            fused[id(buffer)] = products[0]
    return fused


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
    """All buffers in an order in which each is filled before it is read."""
    order: list[Buffer] = []
    done: set[int] = set()

    def visit(value: Value) -> None:
        buffer = value if isinstance(value, Buffer) else names.stored.get(id(value))
        key = id(buffer) if buffer is not None else id(value)
        if key in done:
            return
        done.add(key)
        if buffer is not None and not isinstance(value, Buffer):
            done.add(id(value))
        for parent in value.parents():
            if buffer is not None and parent is value:
                continue
            visit(parent)
        if buffer is not None:
            order.append(buffer)

    for root in roots:
        visit(root)
    return order


def allocate(order: list[Buffer], reads: list[set[Buffer]], outputs: set[int]) -> tuple[dict[int, int], int]:
    """Offset of each buffer in one pool, by first fit, and the size of the pool.

    The memory of a buffer is free after its last reader, except that of ``outputs``.
    """
    last = {id(buffer): number for number, buffer in enumerate(order)}
    for number, used in enumerate(reads):
        for buffer in used:
            last[id(buffer)] = number
    for key in outputs:
        last[key] = len(order)
    live: list[tuple[int, int, int]] = []  # offset, size, last
    offsets, total = {}, 0
    for number, buffer in enumerate(order):
        live = sorted(entry for entry in live if entry[2] >= number)
        size, offset = max(1, math.prod(buffer.shape)), 0
        for start, length, _ in live:
            if offset + size <= start:
                break
            offset = max(offset, start + length)
        offsets[id(buffer)] = offset
        live.append((offset, size, last[id(buffer)]))
        total = max(total, offset + size)
    return offsets, total
