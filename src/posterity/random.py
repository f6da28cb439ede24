"""Seeds and generators: random numbers that do not change the caller's global random state.

Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from posterity.validation import check_seed

if TYPE_CHECKING:
    import torch


def as_generator(seed: int | torch.Generator) -> torch.Generator:
    """A CPU generator seeded with an integer of 64 bits; a generator is returned unchanged.

    Raises ``ValueError`` for anything else.
    """
    import torch

    if isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"expected seed to be an int or a torch.Generator, got {seed!r}")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"expected seed to be an int of 64 bits, got {seed}")
    return torch.Generator().manual_seed(int(seed))


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """n float64 draws of U(low, high), on the generator's device."""
    import torch

    unit = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * unit


def normal(n: int, generator: torch.Generator) -> torch.Tensor:
    """n float64 draws of N(0, 1), on the generator's device."""
    import torch

    return torch.randn(n, generator=generator, device=generator.device, dtype=torch.float64)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global random state inside the ``with`` block, and restore the caller's state afterwards."""
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def child_seeds(seed: int, count: int, *purpose: int) -> list[int]:
    """Seeds of ``count`` independent streams; the first seeds do not depend on ``count``.

    Streams with different ``purpose`` (integers) are independent.
    """
    children = np.random.SeedSequence(seed, spawn_key=purpose).spawn(count)
    return [int(child.generate_state(1, np.uint64)[0]) >> 1 for child in children]


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for one purpose, independent of ``default_rng(seed)``, which the caller may use for data."""
    return np.random.default_rng([zlib.crc32(f"posterity {purpose}".encode()), check_seed(seed)])
