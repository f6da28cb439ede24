"""Contents of IDX files."""

import struct

import numpy as np


def idx(shape=(3, 2, 2), code=0x08, data=None):
    header = struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)
    return header + (bytes(range(int(np.prod(shape)))) if data is None else data)
