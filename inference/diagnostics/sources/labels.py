"""What observations are called: dimensions and coordinates of DataArrays, which have to agree where two meet."""

import re
from typing import Any

import numpy as np
import xarray as xr


def observations(draws: Any, y: Any, count: int) -> xr.DataArray:
    """Zeros (N,) over the observations as draws (S, N, ...) and y (N, ...) name them, over "obs" where neither does.

    Raises ``ValueError`` where both are DataArrays whose dimensions or coordinates differ.
    """
    found = []
    if isinstance(y, xr.DataArray):
        found.append(y)
    if isinstance(draws, xr.DataArray):
        sample = draws.dims[0]
        of_draws = [name for name, coord in draws.coords.items() if sample in coord.dims]
        found.append(draws.drop_vars(of_draws).isel({sample: 0}, drop=True))
    if len(found) == 2:
        require_same("y", found[0], "the draws", found[1])
    named = [one for one in found if is_name(one.dims[0])]
    if not named:
        return xr.DataArray(np.zeros(count), dims="obs")
    best = max(named, key=lambda one: one.dims[0] in one.coords)
    first = best.isel(dict.fromkeys(best.dims[1:], 0), drop=True)
    return xr.zeros_like(first, dtype=float)


def require_same(what: str, one: xr.DataArray, other_name: str, other: xr.DataArray) -> None:
    """``ValueError`` unless two DataArrays of one shape have the same dimensions and coordinates, as far as named."""
    for dim, there in zip(one.dims, other.dims, strict=True):
        if not (is_name(dim) and is_name(there)):
            continue
        if dim != there:
            raise ValueError(f"expected {what} over the dimensions {other.dims} of {other_name}, got {one.dims}")
        require_same_coordinates(what, one, other_name, other, str(dim))


def require_same_coordinates(what: str, one: xr.DataArray, other_name: str, other: xr.DataArray, dim: str) -> None:
    """``ValueError`` where both have coordinates of a dimension, and not the same in the same order."""
    if dim in one.coords and dim in other.coords and not np.array_equal(one[dim].values, other[dim].values):
        raise ValueError(
            f"expected {what} with the coordinates {dim!r} of {other_name}, got others "
            f"({one[dim].values[:3].tolist()}... against {other[dim].values[:3].tolist()}...)"
        )


def is_name(dim: object) -> bool:
    """Whether someone chose it: xarray calls dimensions without a name dim_0, dim_1, ..."""
    return re.fullmatch(r"dim_\d+", str(dim)) is None
