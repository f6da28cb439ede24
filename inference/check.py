"""Numbers among settings: a bool, a text, nan or infinity is an error where it is given, not later."""

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any


def number(
    name: str,
    value: Any,
    *,
    low: float,
    high: float | None = None,
    integer: bool = False,
    edges: bool | None = None,
) -> None:
    """``ValueError`` unless ``value`` is a finite number, whole if ``integer``, from ``low`` to ``high``.

    ``edges`` says whether these two are allowed; by default they are of whole numbers, and are not of others.
    """
    edges = integer if edges is None else edges
    wanted = (f" of {low} or more" if edges else f" above {low}") if high is None else f" between {low} and {high}"
    high = math.inf if high is None else high
    kind = isinstance(value, Integral if integer else Real) and not isinstance(value, bool) and math.isfinite(value)
    if not kind:
        wanted += " (a whole number)" if integer else " (a finite number)"
    if not kind or not (low <= value <= high if edges else low < value < high):
        raise ValueError(f"expected {name}{wanted}, got {value!r}")


def numbers(settings: Any, *, counts: tuple[str, ...] = (), positive: tuple[str, ...] = ()) -> None:
    """`number` of some fields: ``counts`` are whole and at least 1, ``positive`` above 0; or None, where that is the
    default."""
    optional = {field.name for field in fields(settings) if field.default is None}
    for name in (*counts, *positive):
        value = getattr(settings, name)
        if value is not None or name not in optional:
            number(name, value, low=1 if name in counts else 0, integer=name in counts)


def share(name: str, value: Any) -> None:
    """``ValueError`` unless ``value`` is a number from 0 to below 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(f"expected {name} in [0, 1), got {value!r}")
