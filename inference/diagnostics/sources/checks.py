"""Checks that diagnostics share. No torch: diagnostics of stored results run without it."""

import zlib
from typing import Any

import numpy as np


def to_array(values: Any) -> np.ndarray:
    """Numbers of any kind (tensor, array, list) as an array; floats keep their precision."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def require_finite(name: str, values: np.ndarray) -> None:
    """``ValueError`` that counts the values which are nan or infinite, if any is."""
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"expected finite {name}, got {bad} of {values.size} that are nan or infinite")


def require_seed(seed: Any) -> int:
    """The seed, if it is a whole number of 0 or more; ``ValueError`` otherwise."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"expected seed to be a whole number of 0 or more, got {seed!r}")
    return int(seed)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy's generator for one purpose: independent of ``default_rng(seed)``, from which the caller's data may be."""
    return np.random.default_rng([zlib.crc32(f"posterity {purpose}".encode()), require_seed(seed)])
