"""Numbers among settings: a bool, a text, nan or infinity is an error where it is given, not later."""

import math
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


def numbers(settings: object, *, counts: tuple[str, ...] = (), positive: tuple[str, ...] = ()) -> None:
    """`number` of some fields: ``counts`` are whole and at least 1, ``positive`` above 0, or None."""
    for name in counts:
        if getattr(settings, name) is not None:
            number(name, getattr(settings, name), low=1, integer=True)
    for name in positive:
        if getattr(settings, name) is not None:
            number(name, getattr(settings, name), low=0)
