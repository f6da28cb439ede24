"""What the generated code should know of the processor: the width of its vectors, and how many it holds."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """``tile``: rows and columns of a product that are summed in registers at a time."""

    bytes: int
    tile: tuple[int, int]

    def lanes(self, chains: int, dtype: torch.dtype, cores: int) -> int:
        """Chains in one vector, or half as many where that leaves a core without work."""
        full = max(2, self.bytes // dtype.itemsize)
        return full if -(-chains // full) >= cores else max(2, full // 2)


def machine() -> Machine:
    """This one. A tile leaves registers for the factors: of 32, or of AVX2's 16.

    Larger tiles were no faster with AVX-512, nor with its processor restricted to AVX2; others were not measured.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512":
        return Machine(64, (4, 4))
    return Machine(32, (2, 4)) if capability == "AVX2" else Machine(16, (4, 4))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
