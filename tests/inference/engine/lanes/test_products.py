"""Loops over elements, and the tiles of a product, which cover every element once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posterity.inference.engine.lanes import products
from posterity.inference.engine.lanes.expressions import FreshNames
from posterity.inference.engine.lanes.machine import Machine
from posterity.inference.engine.lanes.products import _parts, _tile, loops


@given(st.integers(1, 100), st.integers(1, 8))
def test_tiles_cover_every_element_once(size, tile):
    covered = [
        place + inner
        for first, last, step in _parts(size, tile, blocked=False)
        for place in range(int(first), int(last), step)
        for inner in range(step)
    ]
    assert covered == list(range(size))


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 8))
def test_tiles_of_a_block_of_rows_cover_it_once(r0, rows, tile):
    """What remains of a block is computed row by row, because its size is known only when the code runs."""
    bounds = {"r0": r0, "r1": r0 + rows}
    covered = [
        place + inner
        for first, last, step in _parts(100, tile, blocked=True)
        for place in range(eval(first, bounds), eval(last, bounds), step)
        for inner in range(step)
    ]
    assert covered == list(range(r0, r0 + rows))


@pytest.mark.parametrize("tile", [(4, 5), (4, 3), (2, 4)])
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([None, 1, 2]))
def test_a_tile_fits_the_registers_and_the_product(tile, rows, columns, row):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "machine", lambda: Machine(64, tile))
        high, wide = _tile(rows, columns, row)
    assert 1 <= high * wide <= tile[0] * tile[1]
    assert row == 1 or high <= rows
    assert row == 2 or wide <= columns


def test_loops_skip_dimensions_of_one_element_and_stay_in_their_block():
    heads, index = loops((3, 1, 7), FreshNames(), row=2)
    assert heads == ["for (int i1 = 0; i1 < 3; i1++) {", "for (int i2 = r0; i2 < r1; i2++) {"]
    assert index == ("i1", "0", "i2")
