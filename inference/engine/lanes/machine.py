"""Properties of the processor that shape the generated code: the width and the number of its vector registers."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """Vector width in ``bytes``, and the ``tile`` (rows, columns) of a matrix product that is summed in registers."""

    bytes: int
    tile: tuple[int, int]

    def lanes(self, chains: int, dtype: torch.dtype, cores: int) -> int:
        """Chains per vector; half as many if full vectors would leave a core without work."""
        full = max(2, self.bytes // dtype.itemsize)
        return full if -(-chains // full) >= cores else max(2, full // 2)


def machine() -> Machine:
    """The `Machine` of this processor.

    A tile leaves registers for the factors: AVX-512 has 32 registers, AVX2 has 16. Larger tiles were not faster on an
    AVX-512 processor, nor on the same processor restricted to AVX2; no other processors were measured.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512":
        return Machine(64, (4, 4))
    return Machine(32, (2, 4)) if capability == "AVX2" else Machine(16, (4, 4))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
