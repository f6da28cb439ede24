"""From expressions to the C function of one block of chains: loops over elements, and products in register tiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Cumulative,
    FreshNames,
    Index,
    Pieces,
    Product,
    Reduction,
    Scatter,
    Scope,
    Shape,
    Value,
    integers_at,
    linear,
)
from posterity.inference.engine.lanes.machine import machine
from posterity.inference.engine.lanes.plan import (
    allocate,
    drop_batch,
    find_epilogues,
    find_stored,
    product_index,
    schedule,
)

BLOCK = 16  # terms in a partial sum, for the accuracy of long sums


@dataclass(frozen=True)
class Code:
    """The body of the C function ``model``, the vectors of memory that it needs, and its constant arrays."""

    text: str
    vectors: int
    floats: list[Tensor]
    integers: list[Tensor]


def emit(outputs: Sequence[Value], targets: Sequence[str]) -> Code:
    """C code that writes each output to the array named in ``targets``."""
    names = FreshNames()
    roots = [Buffer(value, value.shape) if not isinstance(value, Buffer) else value for value in outputs]
    uses, stored = find_stored(roots)
    for value in stored:
        names.stored[id(value)] = Buffer(value, value.shape)
    order = schedule(roots, names)
    for number, buffer in enumerate(order):
        buffer.name = f"b{number}"
    fused = find_epilogues(order, uses, names)
    order = [buffer for buffer in order if id(buffer) not in {id(p) for p in fused.values()}]
    final = {id(root): target for root, target in zip(roots, targets, strict=True)}
    bodies, reads = [], []
    for buffer in order:
        names.reads, names.filling = set(), buffer
        bodies.append("\n".join(_fill(buffer, names, fused.get(id(buffer)))))
        reads.append(names.reads)
    offsets, vectors = allocate(order, reads, outputs={id(root) for root in roots})
    lines = []
    for buffer, body in zip(order, bodies, strict=True):
        lines += [f"V* const {buffer.name} = B + {offsets[id(buffer)]};", "{", body, "}"]
    for root in roots:
        size = math.prod(root.shape)
        lines.append(f"for (int i = 0; i < {size}; i++) {final[id(root)]}[i] = {root.name}[i];")
    return Code("\n".join(lines), vectors, names.floats, names.integers)


def _fill(buffer: Buffer, names: FreshNames, product: Buffer | None) -> list[str]:
    """The statements that fill a buffer; ``product`` is the product fused into it, if any (see `find_epilogues`)."""
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
    """The heads of nested loops over ``shape``, and the index inside them."""
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
    """A loop over the elements of an expression."""
    heads, index = _loops(value.shape, names)
    scope = Scope(names)
    result = value.at(index, scope)
    if value.mask:
        result = f"({result} ? fill(1) : fill(0))"
    return [*heads, *scope.lines, f"{buffer.name}[{linear(buffer.shape, index)}] = {result};", *("}" for _ in heads)]


def _piece(value: Value, offset: int, dim: int, buffer: Buffer, names: FreshNames) -> list[str]:
    """A loop that writes one piece of a concatenation."""
    heads, index = _loops(value.shape, names)
    scope = Scope(names)
    result = value.at(index, scope)
    target = (*index[:dim], f"({index[dim]}+{offset})" if offset else index[dim], *index[dim + 1 :])
    return [*heads, *scope.lines, f"{buffer.name}[{linear(buffer.shape, target)}] = {result};", *("}" for _ in heads)]


def _reduction(source: Reduction, buffer: Buffer, names: FreshNames) -> list[str]:
    """Loops of a reduction, in partial sums of ``BLOCK`` terms along its last dimension."""
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
    """Loops over the tiles of ``product``; if it is fused, they store ``buffer``, computed from its elements."""
    source = product.source
    if not isinstance(source, Product):
        raise TypeError(f"expected a product, got {type(source).__name__}")
    batch, rows, columns = product.shape
    depth = source.left.shape[2]
    # The accumulators of a tile stay in registers; tiles are as square as the product allows.
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
            index = product_index(product, b, f"({m}+{i})", f"({n}+{j})")
            result = f"c[{i}][{j}]"
            if product is not buffer and isinstance(buffer.source, Value):
                after.known[id(product), index] = result
                index = drop_batch(index, buffer.shape)
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
    """First, last and length of the tiles of one dimension: whole tiles, and one for the remainder."""
    whole = size // tile * tile
    return [part for part in ((0, whole, tile), (whole, size, size - whole)) if part[0] < part[1]]


def _cumulative(source: Cumulative, buffer: Buffer, names: FreshNames) -> list[str]:
    """Loops of a cumulative sum or product."""
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
    """Loops that copy the base, then write or add the source at its positions."""
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
