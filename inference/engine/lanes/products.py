"""Loops over the elements of values, and over the tiles of matrix products."""

from typing import Any

from posterity.inference.engine.lanes.expressions import Buffer, FreshNames, Index, Product, Scope, Shape, Value
from posterity.inference.engine.lanes.machine import machine
from posterity.inference.engine.lanes.plan import drop_batch, product_index

PANEL = 24  # columns from which a product goes through the rows inside, so that its right factor is read once


def loops(shape: Shape, names: FreshNames, row: int | None = None) -> tuple[list[str], Index]:
    """The heads of nested loops over ``shape``, in a block along the dimension ``row``, and the index inside."""
    heads, index = [], []
    for d, size in enumerate(shape):
        if size == 1:
            index.append("0")
            continue
        i = names.fresh("i")
        begin, end = ("r0", "r1") if d == row else ("0", str(size))
        heads.append(f"for (int {i} = {begin}; {i} < {end}; {i}++) {{")
        index.append(i)
    return heads, tuple(index)


def multiply(product: Buffer, buffer: Buffer, names: FreshNames, *, grows: bool) -> list[str]:
    """Loops over the tiles of ``product``; if it is fused, they store ``buffer``, computed from its elements.

    With ``grows`` the product over one block of rows is added to that over the blocks before.
    """
    source = product.source
    if not isinstance(source, Product):
        raise TypeError(f"expected a product, got {type(source).__name__}")
    batch, rows, columns = product.shape
    depth = source.left.shape[2]
    high, wide = _tile(rows, columns, product.row)
    heads, (b, *_) = loops((batch,), names, product.row)
    m, n, k = (names.fresh(stem) for stem in "mnk")
    lines = list(heads)
    begin, end = ("r0", "r1") if grows else ("0", str(depth))
    over = f"for (int {k} = {begin}; {k} < {end}; {k}++) {{"
    for first_row, last_row, tall in _parts(rows, high, product.row == 1):
        for first, last, broad in _parts(columns, wide, product.row == 2):
            outer = f"for (int {m} = {first_row}; {m} < {last_row}; {m} += {tall})"
            inner = f"for (int {n} = {first}; {n} < {last}; {n} += {broad})"
            if columns >= PANEL and product.row == 1:
                outer, inner = inner, outer
            body = _tile_body(product, buffer, names, (b, m, n, "0" if depth == 1 else k), (tall, broad), over, grows)
            lines += [outer, f"{inner} {{", *body, "}"]
    return [*lines, *("}" for _ in heads)]


def _tile(rows: int, columns: int, row: int | None) -> tuple[int, int]:
    """Height and width of a tile: its sums stay in registers, and it is as square as the product allows."""
    high, wide = machine().tile
    room = high * wide
    if row != 2 and columns < wide:
        high, wide = min(8, room // columns), columns
    if row != 1 and rows < high:
        high, wide = rows, min(columns, room // rows, 8)
    return high, wide


def _tile_body(
    product: Buffer, buffer: Buffer, names: FreshNames, index: Index, size: tuple[int, int], over: str, grows: bool
) -> list[str]:
    """The statements of one tile."""
    source: Any = product.source
    (b, m, n, k), (tall, broad) = index, size
    _, rows, columns = product.shape
    i, j = names.fresh("i"), names.fresh("j")
    scope = Scope(names)
    row = ["0" if rows == 1 else f"({m}+{x})" for x in range(tall)]
    column = ["0" if columns == 1 else f"({n}+{x})" for x in range(broad)]
    left = [source.left.at((b, r, k), scope) for r in row]
    right = [source.right.at((b, k, c), scope) for c in column]
    pairs = [(x, y) for x in range(tall) for y in range(broad)]
    after = Scope(names)
    place = product_index(product, b, f"({m}+{i})", f"({n}+{j})")
    result = f"c[{i}][{j}]"
    if product is not buffer and isinstance(buffer.source, Value):
        after.known[id(product), place] = result
        place = drop_batch(place, buffer.shape)
        result = buffer.source.at(place, after)
    return [
        *(f"V c{x}_{y} = V{{}};" for x, y in pairs),
        "#pragma GCC unroll 2",
        over,
        *scope.lines,
        # One element of the left factor at a time, so that a large tile leaves registers for all of the right one.
        *(f"V w{y} = {value};" for y, value in enumerate(right)),
        *(line for x, value in enumerate(left) for line in _row_of_tile(x, value, broad)),
        "}",
        f"V c[{tall}][{broad}] = {{{', '.join(f'c{x}_{y}' for x, y in pairs)}}};",
        f"for (int {i} = 0; {i} < {tall}; {i}++) for (int {j} = 0; {j} < {broad}; {j}++) {{",
        *after.lines,
        f"{buffer.element(place)} {'+=' if grows else '='} {result};",
        "}",
    ]


def _row_of_tile(x: int, value: str, broad: int) -> list[str]:
    return ["{", f"V l = {value};", *(f"c{x}_{y} += l * w{y};" for y in range(broad)), "}"]


def _parts(size: int, tile: int, blocked: bool) -> list[tuple[str, str, int]]:
    """First, last and length of the tiles of one dimension: whole tiles, and what remains.

    In a block of rows what remains is computed row by row, because its size is not known.
    """
    if blocked:
        whole = f"(r1 - (r1 - r0) % {tile})"
        return [("r0", whole, tile), (whole, "r1", 1)] if tile > 1 else [("r0", "r1", 1)]
    whole_size = size // tile * tile
    parts = ((0, whole_size, tile), (whole_size, size, size - whole_size))
    return [(str(first), str(last), step) for first, last, step in parts if first < last]
