"""Checks that diagnostics share. No torch: diagnostics of stored results run without it."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 2**53
"""Whole numbers from here on are not told apart in float64, and are more than anything can be counted to."""


def to_array(values: Any, name: str = "values") -> np.ndarray:
    """Numbers of any kind (tensor, array, list) as an array; floats keep their precision.

    ``ValueError`` for a masked array, and for what is no array: lists of several lengths, a Dataset.
    """
    refuse_mask(name, values)
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected {name} as an array, got {type(values).__name__}: {error}") from None


def require_finite(name: str, values: np.ndarray) -> None:
    """``ValueError`` that counts the values which are nan or infinite, if any is."""
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"expected finite {name}, got {bad} of {values.size} that are nan or infinite")


def refuse_mask(name: str, values: Any) -> None:
    """``ValueError`` for a masked array, whose masked values would count."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"expected {name} without a mask, got a masked array: leave out what is masked")


def to_numbers(name: str, values: Any) -> np.ndarray:
    """Real numbers (booleans count) as an array of float64; ``ValueError`` for others."""
    array = to_array(values, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers as {name}, got {array.dtype}")
    return array.astype(float, copy=False)


def require_whole(name: str, value: Any) -> int:
    """The value, if it is a whole number; ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"expected {name} to be a whole number, got {_short(value)}")
    whole = int(value)
    if abs(whole) >= LARGEST:
        raise ValueError(f"expected {name} below 2**53, got {whole}")
    return whole


def require_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """The value, if it is one of the names; ``ValueError`` with all of them otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"expected {name} to be one of {', '.join(choices)}, got {_short(value)}")
    return value


def require_number(name: str, value: Any) -> float:
    """The value, if it is one real number and not nan; ``ValueError`` otherwise."""
    real = not isinstance(value, bool) and isinstance(value, int | float | np.integer | np.floating)
    if not real or math.isnan(value):
        raise ValueError(f"expected {name} to be a number, got {_short(value)}")
    return float(value)


def require_seed(seed: Any) -> int:
    """The seed, if it is a whole number of 0 or more that torch takes; ``ValueError`` otherwise."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"expected seed to be a whole number of 0 or more, got {_short(seed)}")
    if seed >= 2**63:
        raise ValueError(f"expected seed below 2**63, got {seed}")
    return int(seed)


def _short(value: Any) -> str:
    """For a message: an array is not printed."""
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy's generator for one purpose: independent of ``default_rng(seed)``, from which the caller's data may be."""
    return np.random.default_rng([zlib.crc32(f"posterity {purpose}".encode()), require_seed(seed)])
