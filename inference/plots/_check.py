"""Checks of what plots are given, each a `ValueError` that names the argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.colors import is_color_like

from posterity.inference.diagnostics.sources.checks import require_finite, require_number, require_whole, to_numbers


def require_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"expected {name} to be True or False, got {type(value).__name__}")
    return bool(value)


def require_bins(value: Any) -> int:
    """A whole number of at least 1."""
    if require_whole("bins", value) < 1:
        raise ValueError(f"expected bins of 1 or more, got {value}")
    return int(value)


def require_prob(name: str, value: Any) -> float:
    """A number between 0 and 1, neither of them."""
    if not 0 < require_number(name, value) < 1:
        raise ValueError(f"expected {name} in (0, 1), got {value}")
    return float(value)


def require_above(name: str, value: Any, least: float) -> float:
    """A finite number above ``least``."""
    if not least < require_number(name, value) < np.inf:
        raise ValueError(f"expected a finite {name} above {least:g}, got {value}")
    return float(value)


def require_pair(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers."""
    pair = to_numbers(name, value)
    if pair.shape != (2,):
        raise ValueError(f"expected {name} as two numbers, got an array of shape {pair.shape}")
    require_finite(name, pair)
    return float(pair[0]), float(pair[1])


def require_figsize(value: Any) -> None:
    """None, or two positive lengths in inches."""
    if value is not None and min(require_pair("figsize", value)) <= 0:
        raise ValueError(f"expected figsize as two lengths above 0 inches, got {value}")


def require_names(name: str, value: Any) -> list[str]:
    """Texts in a list or a tuple; one text is a list of one."""
    given = [value] if isinstance(value, str) else value
    if isinstance(given, np.ndarray):
        given = np.atleast_1d(given).ravel().tolist()
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"expected {name} as a list of names, got {type(value).__name__}")
    return [str(one) for one in given]


def require_colors(value: Any, count: int) -> list[Any]:
    """``count`` colours that matplotlib knows."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable) or hasattr(value, "detach"):
        raise ValueError(f"expected {count} colors in a list, got {type(value).__name__}")
    given = list(value) if not isinstance(value, np.ndarray) or value.ndim else [value]
    if len(given) != count:
        raise ValueError(f"expected {count} colors, got {len(given)}")
    if not all(_is_colour(one) for one in given):
        raise ValueError("expected colors that matplotlib knows, got others")
    return given


def _is_colour(value: Any) -> bool:
    try:
        return bool(is_color_like(value))
    except (TypeError, ValueError, RuntimeError):
        return False
