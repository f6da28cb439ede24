"""From expressions to the C function of one block of chains: loops, tiles, and memory that is used again.

Which expressions are stored: results of reductions and products, what is read more than once or by something
larger than itself, and the outputs. Everything else is computed where it is used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Constant,
    Cumulative,
    FreshNames,
    Index,
    Input,
    Pieces,
    Pointwise,
    Product,
    Reduction,
    Scatter,
    Scope,
    Shape,
    Taken,
    Value,
    View,
    integers_at,
    linear,
)
from posterity.inference.engine.lanes.machine import machine

INLINE = 2  # operations that are cheaper to repeat than to store
BLOCK = 16  # partial sums, for the accuracy of long ones


@dataclass(frozen=True)
class Code:
    """The body of ``model(q, out, B, K, J)``, the vectors of memory it needs, and its constant arrays."""

    text: str
    vectors: int
    floats: list[Tensor]
    integers: list[Tensor]


def emit(outputs: Sequence[Value], targets: Sequence[str]) -> Code:
    """C code that writes each output to the array of its target name."""
    names = FreshNames()
    roots = [Buffer(value, value.shape) if not isinstance(value, Buffer) else value for value in outputs]
    uses, stored = _shared(roots)
    for value in stored:
        names.stored[id(value)] = Buffer(value, value.shape)
    order: list[Buffer] = []
    _schedule(roots, names, order)
    for number, buffer in enumerate(order):
        buffer.name = f"b{number}"
    fused = _epilogues(order, uses, names)
    order = [buffer for buffer in order if id(buffer) not in {id(p) for p in fused.values()}]
    final = {id(root): target for root, target in zip(roots, targets, strict=True)}
    bodies, reads = [], []
    for buffer in order:
        names.reads, names.filling = set(), buffer
        bodies.append("\n".join(_fill(buffer, names, fused.get(id(buffer)))))
        reads.append(names.reads)
    offsets, vectors = _allocate(order, reads, kept={id(root) for root in roots})
    lines = []
    for buffer, body in zip(order, bodies, strict=True):
        lines += [f"V* const {buffer.name} = B + {offsets[id(buffer)]};", "{", body, "}"]
    for root in roots:
        size = math.prod(root.shape)
        lines.append(f"for (int i = 0; i < {size}; i++) {final[id(root)]}[i] = {root.name}[i];")
    return Code("\n".join(lines), vectors, names.floats, names.integers)


def _shared(roots: Sequence[Value]) -> tuple[dict[int, int], list[Value]]:
    """How often each value is read, and the expressions worth storing."""
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
        # The elements of a factor of a product are read many times, whatever view is between them.
        for parent in value.parents() if isinstance(value, Buffer) and isinstance(value.source, Product) else ():
            factors.add(id(_base(parent)))
        if isinstance(value, View | Taken) and id(value) in larger:
            larger.add(id(_base(value)))
    kept: list[Value] = []
    for key, value in seen.items():
        often = uses.get(key, 0) > 1 and value.cost > INLINE
        if isinstance(value, Pointwise) and (often or (key in larger and value.cost > 1) or key in factors):
            kept.append(value)
    return uses, kept


def _base(value: Value) -> Value:
    while isinstance(value, View | Taken):
        value = value.base
    return value


def _epilogues(order: Sequence[Buffer], uses: dict[int, int], names: FreshNames) -> dict[int, Buffer]:
    """Products whose only reader takes them element by element: it is applied to the tile before it is stored."""
    fused: dict[int, Buffer] = {}
    for buffer in order:
        if not isinstance(buffer.source, Pointwise) or buffer.mask:
            continue
        found, stack = [], list(buffer.source.parents())
        while stack:
            value = stack.pop()
            if uses.get(id(value), 0) > 1 or id(value) in names.stored:
                continue
            if isinstance(value, Buffer):
                if isinstance(value.source, Product) and math.prod(value.shape) == math.prod(buffer.shape):
                    found.append(value)
                continue
            stack.extend(value.parents())
        if len(found) == 1 and _same_elements(buffer, found[0], names):
            fused[id(buffer)] = found[0]
    return fused


def _same_elements(buffer: Buffer, product: Buffer, names: FreshNames) -> bool:
    """Whether element i of the expression reads element i of the product and no other."""
    reads, names.reads, names.filling = names.reads, set(), buffer
    index = _product_index(product, "b", "m", "n")
    scope = Scope(names)
    scope.known[id(product), index] = "c"
    if len(buffer.shape) in (2, 3) and isinstance(buffer.source, Value):
        buffer.source.at(_trimmed(index, buffer.shape), scope)
        alone = product not in names.reads
    else:
        alone = False
    names.reads = reads
    return alone


def _product_index(product: Buffer, b: str, m: str, n: str) -> Index:
    return tuple("0" if size == 1 else i for size, i in zip(product.shape, (b, m, n), strict=True))


def _trimmed(index: Index, shape: Shape) -> Index:
    """The index of a product (batch, m, n) for an expression that may be without the batch."""
    return index[len(index) - len(shape) :]


def _schedule(roots: Sequence[Buffer], names: FreshNames, order: list[Buffer]) -> None:
    """Buffers in an order in which each is filled before it is read."""
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
        # The source of a root may itself be stored for others.
        visit(root)


def _allocate(order: list[Buffer], reads: list[set[Buffer]], kept: set[int]) -> tuple[dict[int, int], int]:
    """Offsets in one pool, first fit; memory is free again after its last reader."""
    last = {id(buffer): number for number, buffer in enumerate(order)}
    for number, used in enumerate(reads):
        for buffer in used:
            last[id(buffer)] = number
    for key in kept:
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


def _fill(buffer: Buffer, names: FreshNames, product: Buffer | None) -> list[str]:
    source = buffer.source
    if product is not None:
        return _product(product, buffer, names)
    if isinstance(source, Value):
        return _each(source, buffer, names)
    if isinstance(source, Reduction):
        return _reduction(source, buffer, names)
    if isinstance(source, Product):
        return _product(buffer, buffer, names)
    if isinstance(source, Pieces):
        return [line for value, offset in source.pieces for line in _piece(value, offset, source.dim, buffer, names)]
    if isinstance(source, Cumulative):
        return _cumulative(source, buffer, names)
    if isinstance(source, Scatter):
        return _scatter(source, buffer, names)
    raise TypeError(f"no loops for {type(source).__name__}")


def _loops(shape: Shape, names: FreshNames) -> tuple[list[str], Index]:
    heads, index = [], []
    for size in shape:
        if size == 1:
            index.append("0")
            continue
        i = names.fresh("i")
        heads.append(f"for (int {i} = 0; {i} < {size}; {i}++) {{")
        index.append(i)
    return heads, tuple(index)


def _each(value: Value, buffer: Buffer, names: FreshNames) -> list[str]:
    heads, index = _loops(value.shape, names)
    scope = Scope(names)
    result = value.at(index, scope)
    if value.mask:
        result = f"({result} ? fill(1) : fill(0))"
    return [*heads, *scope.lines, f"{buffer.name}[{linear(buffer.shape, index)}] = {result};", *("}" for _ in heads)]


def _piece(value: Value, offset: int, dim: int, buffer: Buffer, names: FreshNames) -> list[str]:
    heads, index = _loops(value.shape, names)
    scope = Scope(names)
    result = value.at(index, scope)
    target = (*index[:dim], f"({index[dim]}+{offset})" if offset else index[dim], *index[dim + 1 :])
    return [*heads, *scope.lines, f"{buffer.name}[{linear(buffer.shape, target)}] = {result};", *("}" for _ in heads)]


def _reduction(source: Reduction, buffer: Buffer, names: FreshNames) -> list[str]:
    shape = source.base.shape
    heads, index = _loops(buffer.shape, names)
    inner = [d for d in source.dims if shape[d] != 1]
    full, inner_heads = list(index), []
    total, lines = names.fresh("s"), []
    for d in inner[:-1]:
        i = names.fresh("i")
        inner_heads.append(f"for (int {i} = 0; {i} < {shape[d]}; {i}++) {{")
        full[d] = i
    i, size = names.fresh("i"), shape[inner[-1]]
    full[inner[-1]] = i
    scope = Scope(names)
    term = source.base.at(tuple(full), scope)
    if size <= BLOCK:
        lines = [
            f"for (int {i} = 0; {i} < {size}; {i}++) {{",
            *scope.lines,
            f"{total} = {source.combine.format(total, term)};",
            "}",
        ]
    else:
        part, start = names.fresh("s"), names.fresh("i")
        lines = [
            f"for (int {start} = 0; {start} < {size}; {start} += {BLOCK}) {{",
            f"V {part} = {source.start};",
            f"for (int {i} = {start}; {i} < ({start} + {BLOCK} < {size} ? {start} + {BLOCK} : {size}); {i}++) {{",
            *scope.lines,
            f"{part} = {source.combine.format(part, term)};",
            "}",
            f"{total} = {source.combine.format(total, part)};",
            "}",
        ]
    return [
        *heads,
        f"V {total} = {source.start};",
        *inner_heads,
        *lines,
        *("}" for _ in inner_heads),
        f"{buffer.name}[{linear(buffer.shape, index)}] = {total};",
        *("}" for _ in heads),
    ]


def _product(product: Buffer, buffer: Buffer, names: FreshNames) -> list[str]:
    """``product``, or with an epilogue the ``buffer`` that is computed from its elements."""
    source = product.source
    if not isinstance(source, Product):
        raise TypeError(f"expected a product, got {type(source).__name__}")
    batch, rows, columns = product.shape
    depth = source.left.shape[2]
    # Tiles of accumulators that stay in registers, as square as the product allows.
    high, wide = machine().tile
    room = high * wide
    if columns < wide:
        high, wide = min(8, room // columns), columns
    if rows < high:
        high, wide = rows, min(columns, room // rows, 8)
    heads, (b, *_) = _loops((batch,), names)
    m, n, k, i, j = (names.fresh(stem) for stem in "mnkij")
    lines = list(heads)
    for first_row, last_row, tall in _tiles(rows, high):
        for first, last, broad in _tiles(columns, wide):
            scope = Scope(names)
            k_index = "0" if depth == 1 else k
            row = ["0" if rows == 1 else f"({m}+{x})" for x in range(tall)]
            column = ["0" if columns == 1 else f"({n}+{x})" for x in range(broad)]
            left = [source.left.at((b, r, k_index), scope) for r in row]
            right = [source.right.at((b, k_index, c), scope) for c in column]
            pairs = [(x, y) for x in range(tall) for y in range(broad)]
            after = Scope(names)
            index = _product_index(product, b, f"({m}+{i})", f"({n}+{j})")
            result = f"c[{i}][{j}]"
            if product is not buffer and isinstance(buffer.source, Value):
                after.known[id(product), index] = result
                index = _trimmed(index, buffer.shape)
                result = buffer.source.at(index, after)
            lines += [
                f"for (int {m} = {first_row}; {m} < {last_row}; {m} += {tall})",
                f"for (int {n} = {first}; {n} < {last}; {n} += {broad}) {{",
                *(f"V c{x}_{y} = V{{}};" for x, y in pairs),
                "#pragma GCC unroll 2",
                f"for (int {k} = 0; {k} < {depth}; {k}++) {{",
                *scope.lines,
                *(f"V l{x} = {value};" for x, value in enumerate(left)),
                *(f"V r{y} = {value};" for y, value in enumerate(right)),
                *(f"c{x}_{y} += l{x} * r{y};" for x, y in pairs),
                "}",
                f"V c[{tall}][{broad}] = {{{', '.join(f'c{x}_{y}' for x, y in pairs)}}};",
                f"for (int {i} = 0; {i} < {tall}; {i}++) for (int {j} = 0; {j} < {broad}; {j}++) {{",
                *after.lines,
                f"{buffer.name}[{linear(buffer.shape, index)}] = {result};",
                "}",
                "}",
            ]
    return [*lines, *("}" for _ in heads)]


def _tiles(size: int, tile: int) -> list[tuple[int, int, int]]:
    """First, last and length of the tiles of one dimension: the whole ones, and one for what is left."""
    whole = size // tile * tile
    return [part for part in ((0, whole, tile), (whole, size, size - whole)) if part[0] < part[1]]


def _cumulative(source: Cumulative, buffer: Buffer, names: FreshNames) -> list[str]:
    outer = tuple(1 if d == source.dim else s for d, s in enumerate(buffer.shape))
    heads, index = _loops(outer, names)
    i, total = names.fresh("i"), names.fresh("s")
    full = (*index[: source.dim], i, *index[source.dim + 1 :])
    scope = Scope(names)
    term = source.base.at(full, scope)
    return [
        *heads,
        f"V {total} = fill({source.start});",
        f"for (int {i} = 0; {i} < {buffer.shape[source.dim]}; {i}++) {{",
        *scope.lines,
        f"{total} = {total} {source.sign} {term};",
        f"{buffer.name}[{linear(buffer.shape, full)}] = {total};",
        "}",
        *("}" for _ in heads),
    ]


def _scatter(source: Scatter, buffer: Buffer, names: FreshNames) -> list[str]:
    heads, index = _loops(source.positions.shape if source.positions.ndim else (), names)
    scope = Scope(names)
    term = source.source.at(index, scope)
    position = integers_at(names, source.positions, index)
    sign = "+=" if source.accumulate else "="
    return [
        *_each(source.base, buffer, names),
        *heads,
        *scope.lines,
        f"{buffer.name}[{position}] {sign} {term};",
        *("}" for _ in heads),
    ]


__all__ = ["Code", "Constant", "Input", "emit"]
