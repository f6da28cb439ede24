"""From expressions to the C function of one block of chains: loops over elements, and products in register tiles."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Cumulative,
    Factored,
    FreshNames,
    Index,
    Pieces,
    Product,
    Reduction,
    Scatter,
    Scope,
    Shape,
    Solved,
    Value,
    integers_at,
)
from posterity.inference.engine.lanes.machine import machine
from posterity.inference.engine.lanes.plan import Step, allocate, find_epilogues, find_stored, in_steps, schedule
from posterity.inference.engine.lanes.products import loops, multiply
from posterity.inference.engine.lanes.rolling import roll
from posterity.inference.engine.lanes.rows import Place, place_values

Blocks = list[list[str]]
BLOCK = 16  # terms in a partial sum, for the accuracy of long sums
SMALLEST = 8  # rows of a block, unless there are fewer


@dataclass(frozen=True)
class Code:
    """The body of the C function ``model``, the memory that it needs, and its constant arrays.

    ``vectors`` are those of the whole function, ``row_vectors`` those for each row of a block. There are ``rows`` rows;
    a block has ``ROWS`` of them, a macro of the code (see `block`).
    """

    text: str
    vectors: int
    floats: list[Tensor]
    integers: list[Tensor]
    row_vectors: int = 0
    rows: int = 0

    def block(self, bytes_of_vector: int) -> int:
        """The number of rows of a block whose memory stays in the cache."""
        fitting = machine().cache // max(1, self.row_vectors * bytes_of_vector)
        return max(1, min(self.rows, max(SMALLEST, fitting // SMALLEST * SMALLEST)))

    def size(self, bytes_of_vector: int) -> int:
        """All vectors."""
        return self.vectors + self.row_vectors * self.block(bytes_of_vector)


def emit(outputs: Sequence[Value], targets: Sequence[str]) -> Code:
    """C code that writes each output to the array named in ``targets``."""
    names = FreshNames()
    roots = [Buffer(value, value.shape) if not isinstance(value, Buffer) else value for value in outputs]
    places, rows = place_values(roots)
    uses, stored = find_stored(roots)
    for value in stored:
        buffer = names.stored[id(value)] = Buffer(value, value.shape)
        places[id(buffer)] = places[id(value)]
    order = schedule(roots, names)
    for number, buffer in enumerate(order):
        buffer.name, buffer.row = f"b{number}", places[id(buffer)].row
    fused = find_epilogues(order, uses, names, places)
    inner = {id(p) for p in fused.values()}
    steps = in_steps([buffer for buffer in order if id(buffer) not in inner], places)
    bodies: dict[int, Blocks] = {}
    reads: dict[int, set[Buffer]] = {}
    for buffer in (b for step in steps for b in step.buffers):
        names.reads, names.filling = set(), buffer
        bodies[id(buffer)] = _fill(buffer, names, fused.get(id(buffer)), places)
        reads[id(buffer)] = names.reads
    final: dict[int, str] = {}
    copies = []
    for root, target in zip(roots, targets, strict=True):
        if id(root) in final or places[id(root)].grows:  # what grows has its rounding errors behind it
            copies.append(f"for (int i = 0; i < {math.prod(root.shape)}; i++) {target}[i] = {root.name}[i];")
        else:
            final[id(root)] = target
    writer = _Writer(steps, bodies, reads, places, {id(root) for root in roots}, final)
    text = "\n".join([*writer.lines(rows), *copies])
    return Code(text, writer.vectors, names.floats, names.integers, writer.row_vectors, rows)


class _Writer:
    """Puts the statements of all buffers in order, and gives each buffer its memory.

    A buffer along the rows that no other step reads holds the rows of one block; its name then points to where row 0
    would be. ``targets`` are the names of the function's outputs, which are the memory of their buffers.
    """

    def __init__(
        self, steps: Sequence[Step], bodies: Mapping[int, Blocks], reads: Mapping[int, set[Buffer]],
        places: Mapping[int, Place], outputs: set[int], targets: Mapping[int, str],
    ) -> None:  # fmt: skip
        self.steps, self.bodies, self.reads, self.places, self.targets = steps, bodies, reads, places, targets
        step_of = {id(b): number for number, step in enumerate(steps) for b in step.buffers}
        read_by = [set().union(*(reads[id(b)] for b in step.buffers)) for step in steps]
        elsewhere = {id(b) for number, used in enumerate(read_by) for b in used if step_of.get(id(b)) != number}
        self.blocked = {
            id(b) for step in steps for b in step.buffers if b.row is not None and id(b) not in elsewhere | outputs
        }
        kept = [[b for b in step.buffers if id(b) not in self.blocked] for step in steps]
        self.offsets, self.vectors = allocate(kept, [self._kept(r) for r in read_by], outputs, self._size)
        self.row_vectors = 0
        for step in steps:
            if step.loop:
                inside = [[b] if id(b) in self.blocked else [] for b in step.buffers]
                used = [{r for r in reads[id(b)] if id(r) in self.blocked} for b in step.buffers]
                offsets, size = allocate(inside, used, set(), _row_size)
                self.offsets |= offsets
                self.row_vectors = max(self.row_vectors, size)

    def _kept(self, buffers: set[Buffer]) -> set[Buffer]:
        return {b for b in buffers if id(b) not in self.blocked}

    def _size(self, buffer: Buffer) -> int:
        """Vectors of a buffer that is kept as a whole; a sum that grows has its rounding errors beside it."""
        if id(buffer) in self.targets:
            return 0
        return math.prod(buffer.shape) * (2 if self.places[id(buffer)].grows else 1)

    def lines(self, rows: int) -> list[str]:
        kept = [b for step in self.steps for b in step.buffers if id(b) not in self.blocked]
        lines: list[str] = []
        places = {b.name: self.offsets[id(b)] for b in kept if id(b) not in self.targets}
        plain: Blocks = []
        for step in self.steps:
            if not step.loop:
                plain += self.bodies[id(step.buffers[0])]
                continue
            lines += roll(plain, places)
            plain = []
            grown = [line for b in step.buffers if self.places[id(b)].grows for line in begin_sum(b)]
            lines += [
                *grown,
                f"for (int r0 = 0; r0 < {rows}; r0 += ROWS) {{",
                f"const int r1 = r0 + ROWS < {rows} ? r0 + ROWS : {rows};",
            ]
            for buffer in step.buffers:
                lines += [self._name(buffer)] if id(buffer) in self.blocked else []
                lines += [line for block in self.bodies[id(buffer)] for line in ("{", *block, "}")]
            lines.append("}")
        lines += roll(plain, places)
        named = set(re.findall(r"\bb\d+\b", "\n".join(lines)))
        return [*(self._name(b) for b in kept if b.name in named), *lines]

    def _name(self, buffer: Buffer) -> str:
        offset = self.offsets[id(buffer)]
        if id(buffer) in self.targets:
            return f"V* const {buffer.name} = {self.targets[id(buffer)]};"
        if id(buffer) not in self.blocked:
            return f"V* const {buffer.name} = B + {offset};"
        return f"V* const {buffer.name} = B + {self.vectors} + ROWS * {offset}L - r0 * {_row_size(buffer)}L;"


def _row_size(buffer: Buffer) -> int:
    """Elements of one row of a buffer along the rows."""
    return math.prod(size for d, size in enumerate(buffer.shape) if d != buffer.row)


def _fill(buffer: Buffer, names: FreshNames, product: Buffer | None, places: Mapping[int, Place]) -> Blocks:
    """The statements that fill a buffer; ``product`` is the product fused into it, if any (see `find_epilogues`)."""
    source, place = buffer.source, places[id(buffer)]
    if isinstance(source, Pieces):
        return [_piece(value, offset, source.dim, buffer, names) for value, offset in source.pieces]
    if product is not None:
        return [multiply(product, buffer, names, grows=False)]
    if isinstance(source, Value):
        return [_each(source, buffer, names)]
    if isinstance(source, Reduction):
        return [_reduction(source, buffer, names, places[id(source.base)].row if place.grows else None)]
    if isinstance(source, Product):
        return [multiply(buffer, buffer, names, grows=place.grows)]
    if isinstance(source, Cumulative):
        return [_cumulative(source, buffer, names)]
    if isinstance(source, Factored):
        rows = buffer.shape[-1]
        call = f"cholesky({buffer.name} + i * {rows * rows}, {rows});"
        return [[*_each(source.base, buffer, names), _over_batch(buffer, call)]]
    if isinstance(source, Solved):
        names.reads.add(source.matrix)
        rows, columns = buffer.shape[-2:]
        matrix, right = f"{source.matrix.name} + i * {rows * rows}", f"{buffer.name} + i * {rows * columns}"
        which = "upper" if source.upper else "lower"
        call = f"solve_{which}({matrix}, {right}, {rows}, {columns}, {int(source.unit)});"
        return [[*_each(source.right, buffer, names), _over_batch(buffer, call)]]
    if isinstance(source, Scatter):
        return [_scatter(source, buffer, names, places)]
    raise TypeError(f"no loops for {type(source).__name__}")


def _over_batch(buffer: Buffer, call: str) -> str:
    """A loop over the matrices of a buffer."""
    return f"for (int i = 0; i < {math.prod(buffer.shape[:-2])}; i++) {call}"


def _each(value: Value, buffer: Buffer, names: FreshNames) -> list[str]:
    """A loop over the elements of an expression."""
    heads, index = loops(value.shape, names, buffer.row)
    scope = Scope(names)
    result = value.at(index, scope)
    if value.mask:
        result = f"({result} ? fill(1) : fill(0))"
    return [*heads, *scope.lines, f"{buffer.element(index)} = {result};", *("}" for _ in heads)]


def _piece(value: Value, offset: int, dim: int, buffer: Buffer, names: FreshNames) -> list[str]:
    """A loop that writes one piece of a concatenation."""
    heads, index = loops(value.shape, names, buffer.row)
    scope = Scope(names)
    result = value.at(index, scope)
    target = (*index[:dim], f"({index[dim]}+{offset})" if offset else index[dim], *index[dim + 1 :])
    return [*heads, *scope.lines, f"{buffer.element(target)} = {result};", *("}" for _ in heads)]


def _reduction(source: Reduction, buffer: Buffer, names: FreshNames, over: int | None) -> list[str]:
    """Loops of a reduction, in partial sums of ``BLOCK`` terms along its last dimension.

    If it grows, ``over`` is the dimension of the rows, and the result over one block is added to that over the last.
    """
    shape = source.base.shape
    heads, index = loops(buffer.shape, names, buffer.row)
    inner = [d for d in source.dims if shape[d] != 1]
    full, inner_heads = list(index), []
    total, lines = names.fresh("s"), []
    for d in inner[:-1]:
        i = names.fresh("i")
        begin, end = ("r0", "r1") if d == over else ("0", str(shape[d]))
        inner_heads.append(f"for (int {i} = {begin}; {i} < {end}; {i}++) {{")
        full[d] = i
    i, last = names.fresh("i"), inner[-1]
    begin, end = ("r0", "r1") if last == over else ("0", str(shape[last]))
    full[last] = i
    scope = Scope(names)
    term = source.base.at(tuple(full), scope)
    if last != over and shape[last] <= BLOCK:
        lines = [
            f"for (int {i} = 0; {i} < {end}; {i}++) {{",
            *scope.lines,
            f"{total} = {source.combine.format(total, term)};",
            "}",
        ]
    else:
        part, start = names.fresh("s"), names.fresh("i")
        lines = [
            f"for (int {start} = {begin}; {start} < {end}; {start} += {BLOCK}) {{",
            f"V {part} = {source.start};",
            f"for (int {i} = {start}; {i} < ({start} + {BLOCK} < {end} ? {start} + {BLOCK} : {end}); {i}++) {{",
            *scope.lines,
            f"{part} = {source.combine.format(part, term)};",
            "}",
            f"{total} = {source.combine.format(total, part)};",
            "}",
        ]
    element = buffer.element(index)
    if over is None:
        finish = [f"{element} = {total};"]
    elif source.sums:
        error = f"{element[:-1]} + {math.prod(buffer.shape)}]"
        finish = [f"grow({element}, {error}, {total});"]
    else:
        finish = [f"{element} = {source.combine.format(element, total)};"]
    return [
        *heads,
        f"V {total} = {source.start};",
        *inner_heads,
        *lines,
        *("}" for _ in inner_heads),
        *finish,
        *("}" for _ in heads),
    ]


def begin_sum(buffer: Buffer) -> list[str]:
    """The start of a value that grows in the loop over the rows."""
    source, size = buffer.source, math.prod(buffer.shape)
    if isinstance(source, Reduction):
        start = f"{buffer.name}[i] = {source.start}; {buffer.name}[i + {size}] = V{{}};"
        return [f"for (int i = 0; i < {size}; i++) {{ {start} }}"]
    if isinstance(source, Product):
        return [f"for (int i = 0; i < {size}; i++) {buffer.name}[i] = V{{}};"]
    return buffer.begin


def _cumulative(source: Cumulative, buffer: Buffer, names: FreshNames) -> list[str]:
    """Loops of a cumulative sum or product."""
    outer = tuple(1 if d == source.dim else s for d, s in enumerate(buffer.shape))
    heads, index = loops(outer, names, buffer.row)
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
        f"{buffer.element(full)} = {total};",
        "}",
        *("}" for _ in heads),
    ]


def _scatter(source: Scatter, buffer: Buffer, names: FreshNames, places: Mapping[int, Place]) -> list[str]:
    """Loops that copy the base, then write or add the source at its positions."""
    values = places[id(source.source)]
    heads, index = loops(source.positions.shape if source.positions.ndim else (), names, values.row)
    scope = Scope(names)
    term = source.source.at(index, scope)
    position = integers_at(names, source.positions, index)
    sign = "+=" if source.accumulate else "="
    if buffer.row is not None:  # the rows are outermost in memory, but not in the flat positions
        shape = tuple(buffer.shape)
        position = buffer.element(unravelled(position, shape)).partition("[")[2][:-1]
    base = _each(source.base, buffer, names)
    added = [*heads, *scope.lines, f"{buffer.name}[{position}] {sign} {term};", *("}" for _ in heads)]
    if places[id(buffer)].grows:
        buffer.begin = base
        return added
    return [*base, *added]


def unravelled(position: str, shape: Shape) -> Index:
    """The index of a flat, row-major position."""
    index, stride = [], 1
    for size in reversed(shape):
        index.append(f"(({position}) / {stride} % {size})" if size > 1 else "0")
        stride *= size
    return tuple(reversed(index))
