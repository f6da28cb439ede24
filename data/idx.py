"""IDX, the format of MNIST's files: a header of big-endian integers, then numbers.

Byte 2 of the header is the type of the numbers, byte 3 how many dimensions there are, each as four bytes after it
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
        FileNotFoundError: there is no such file.
        ValueError: it is no IDX file, its numbers are fewer or more than its header says, or its gzip is broken.
    """
    path = as_path("path", path)
    return parse_idx(gunzip(path), str(path))


def parse_idx(contents: bytes, name: str) -> np.ndarray:
    """As `read_idx`, of the contents of a file called ``name``."""
    if len(contents) < 4 or contents[:2] != b"\0\0" or contents[2] not in TYPES:
        raise ValueError(
            f"expected {name} to begin as an IDX file does (0, 0, a type, dimensions), got {contents[:4]!r}"
        )
    ndim = contents[3]
    start = 4 + 4 * ndim
    if not 1 <= ndim <= 32 or len(contents) < start:
        raise ValueError(f"expected {name} to name the size of {ndim} dimensions, got {len(contents)} bytes in all")
    shape = struct.unpack(f">{ndim}I", contents[4:start])
    dtype = np.dtype(TYPES[contents[2]])
    expected, found = math.prod(shape) * dtype.itemsize, len(contents) - start
    if found != expected:
        raise ValueError(
            f"expected {expected} bytes for shape {shape} in {name}, got {found}: it is cut off or damaged"
        )
    return np.frombuffer(contents, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
