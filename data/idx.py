"""Reader of IDX files, the format of MNIST: a header of big-endian integers, then numbers.

Byte 2 of the header is the type of the numbers, byte 3 the number of dimensions, whose sizes follow in four bytes each
(LeCun, Cortes & Burges, "The MNIST database of handwritten digits").
"""

import math
import struct
from pathlib import Path

import numpy as np

from posterity.data.fetch import as_path, gunzip

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, gzip-compressed or not, in the byte order of this machine.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an IDX file, has fewer or more numbers than its header states, or is a damaged gzip
            file.
    """
    path = as_path("path", path)
    return parse_idx(gunzip(path), str(path))


def parse_idx(contents: bytes, name: str) -> np.ndarray:
    """The array in the contents of the IDX file ``name``: see `read_idx`."""
    if len(contents) < 4 or contents[:2] != b"\0\0" or contents[2] not in TYPES:
        raise ValueError(f"expected {name} to start as an IDX file (0, 0, a type, dimensions), got {contents[:4]!r}")
    ndim = contents[3]
    start = 4 + 4 * ndim
    if not 1 <= ndim <= 32 or len(contents) < start:
        raise ValueError(f"expected {name} to state the sizes of {ndim} dimensions, got {len(contents)} bytes in all")
    shape = struct.unpack(f">{ndim}I", contents[4:start])
    dtype = np.dtype(TYPES[contents[2]])
    expected, actual = math.prod(shape) * dtype.itemsize, len(contents) - start
    if actual != expected:
        raise ValueError(
            f"expected {expected} bytes for shape {shape} in {name}, got {actual}: the file is truncated or damaged"
        )
    return np.frombuffer(contents, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
