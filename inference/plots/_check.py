"""Checks of figure sizes and colours, arguments that only plots have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.colors import is_color_like

from posterity.validation import check_finite, to_numbers


def check_figsize(value: Any) -> None:
    """None, or two positive lengths in inches."""
    if value is None:
        return
    pair = to_numbers("figsize", value)
    if pair.shape != (2,):
        raise ValueError(f"expected figsize to be two numbers, got an array of shape {pair.shape}")
    check_finite("figsize", pair)
    if min(pair) <= 0:
        raise ValueError(f"expected figsize to be two lengths above 0 inches, got {value}")


def check_colors(value: Any, count: int) -> list[Any]:
    """``count`` colours that matplotlib knows."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable) or hasattr(value, "detach"):
        raise ValueError(f"expected {count} colors in a list, got {type(value).__name__}")
    given = list(value) if not isinstance(value, np.ndarray) or value.ndim else [value]
    if len(given) != count:
        raise ValueError(f"expected {count} colors, got {len(given)}")
    if not all(_is_colour(colour) for colour in given):
        raise ValueError("expected colors that matplotlib knows, got others")
    return given


def _is_colour(value: Any) -> bool:
    try:
        return bool(is_color_like(value))
    except (TypeError, ValueError, RuntimeError):
        return False
