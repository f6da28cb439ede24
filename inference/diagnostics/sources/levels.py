"""Levels of regions: the check, and results over "level" and the observations."""

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import to_numbers


def check_levels(levels: Any) -> np.ndarray:
    """Levels (L,) as an array; ``ValueError`` unless there is at least one, and all are in (0, 1)."""
    values = to_numbers("levels", levels)
    if values.ndim != 1 or values.size == 0 or not bool(((values > 0) & (values < 1)).all()):
        raise ValueError(f"expected levels to be numbers in (0, 1), got {levels}")
    return values


def check_different_levels(levels: Any) -> np.ndarray:
    """As `check_levels`; ``ValueError`` also if a level is given twice."""
    values = check_levels(levels)
    if len(np.unique(values)) < len(values):
        raise ValueError(f"expected levels to be different, got {levels}")
    return values


def over_levels(
    data: Source, variables: dict[str, np.ndarray], levels: np.ndarray, **attrs: str | int | float
) -> xr.Dataset:
    """Variables (L, N) over "level" and the dimensions of the observations."""
    probe = data.dataset({"y": data.observed})
    if "level" in probe.dims or "level" in probe.coords:
        raise ValueError("expected observations without a dimension or coordinate 'level', which the result has")
    parts = [
        data.dataset({name: values[place] for name, values in variables.items()}, **attrs)
        for place in range(len(levels))
    ]
    return xr.concat(parts, dim="level", combine_attrs="override").assign_coords(level=levels)
