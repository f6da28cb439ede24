"""IDX files: numbers of every type, and damaged files."""

import gzip

import numpy as np
import pytest
import torch

from posterity.data import read_idx
from tests.idx_cases import idx


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_as_it_was_written(packed, tmp_path):
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(idx()) if packed else idx())
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert found.tolist() == np.arange(12).reshape(3, 2, 2).tolist()


@pytest.mark.parametrize(("code", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_numbers_of_every_type_are_in_the_order_of_this_machine(code, dtype, tmp_path):
    values = np.array([[-1, 2, 77]], dtype=dtype)
    path = tmp_path / "a"
    path.write_bytes(idx((1, 3), code, values.astype(f">{dtype}").tobytes()))
    found = read_idx(path)
    assert found.dtype == values.dtype
    assert found.tolist() == values.tolist()
    torch.from_numpy(found)  # only of native order


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "begin as an IDX file does"),
        (b"\x01\x00\x08\x01\x00\x00\x00\x00", "begin as an IDX file does"),
        (b"\0\0\x07\x01\0\0\0\0", "begin as an IDX file does"),
        (b"\0\0\x08\x00", "size of 0 dimensions"),
        (b"\0\0\x08\x03\0\0\0\x02", "size of 3 dimensions"),
        (idx()[:-1], r"expected 12 bytes for shape \(3, 2, 2\) in .*, got 11: it is cut off"),
        (idx() + b"\0", "expected 12 bytes .*, got 13"),
        (gzip.compress(idx())[:-6], "whole gzip file"),
        (gzip.compress(idx())[:12] + b"\xff" * 20, "whole gzip file"),
    ],
    # Bytes of a gzip file hold the time at which it was made: as an id they would differ between two processes.
    ids=[
        "empty",
        "no magic number",
        "no type",
        "no dimensions",
        "dimensions missing",
        "cut off",
        "too long",
        "gzip cut off",
        "gzip damaged",
    ],
)
def test_a_damaged_file_is_refused(contents, message, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_idx(path)
