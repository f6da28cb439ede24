"""Properties of the processor that shape the generated code: the width and the number of its vector registers."""

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    """Vector width in ``bytes``, the ``tile`` (rows, columns) of a matrix product that is summed in registers, and the
    bytes of ``cache`` for a block of rows.
    """

    bytes: int
    tile: tuple[int, int]
    cache: int = 2**18

    def lanes(self, chains: int, dtype: torch.dtype, threads: int) -> int:
        """Chains per vector: full vectors, but half as many if few chains leave half of a vector or a thread without
        work.
        """
        full = max(2, self.bytes // dtype.itemsize)
        fits = -(-chains // full) >= threads and chains > full // 2
        return full if fits else max(2, full // 2)


def machine() -> Machine:
    """The `Machine` of this processor.

    A tile leaves registers for the factors: AVX-512 has 32 registers, AVX2 has 16. Of the tiles from (2, 4) to (8, 3)
    these were the fastest on an AVX-512 processor, and on the same processor restricted to AVX2; no other processors
    were measured. A block of rows takes half of the second-level cache and leaves the rest to the weights.
    """
    capability, half = torch.backends.cpu.get_cpu_capability(), _second_level() // 2
    if capability == "AVX512":
        return Machine(64, (4, 5), half)
    return Machine(32, (4, 3), half) if capability == "AVX2" else Machine(16, (4, 3), half)


@functools.cache
def _second_level() -> int:
    """Bytes of the second-level cache of one core; half a megabyte if the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) * 2**10 if text.endswith("K") else int(text)
    return 2**19


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
