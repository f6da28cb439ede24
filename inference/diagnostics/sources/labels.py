"""Dimensions and coordinates of the observations, which have to agree between DataArrays."""

import re
from typing import Any

import numpy as np
import xarray as xr


def observations(draws: Any, y: Any, count: int) -> xr.DataArray:
    """Zeros (N,) with the dimension and coordinates of draws (S, N, ...) or y (N, ...); "obs" if neither has a name.

    Raises ``ValueError`` if both are DataArrays whose dimensions or coordinates differ.
    """
    arrays = []
    if isinstance(y, xr.DataArray):
        arrays.append(y)
    if isinstance(draws, xr.DataArray):
        sample = draws.dims[0]
        of_draws = [name for name, coord in draws.coords.items() if sample in coord.dims]
        arrays.append(draws.drop_vars(of_draws).isel({sample: 0}, drop=True))
    if len(arrays) == 2:
        require_same("y", arrays[0], "the draws", arrays[1])
    named = [array for array in arrays if is_named(array.dims[0])]
    if not named:
        return xr.DataArray(np.zeros(count), dims="obs")
    best = max(named, key=lambda array: array.dims[0] in array.coords)
    first_target = best.isel(dict.fromkeys(best.dims[1:], 0), drop=True)
    return xr.zeros_like(first_target, dtype=float)


def require_same(name: str, array: xr.DataArray, other_name: str, other: xr.DataArray) -> None:
    """``ValueError`` unless two DataArrays of one shape have the same dimensions and coordinates, as far as named."""
    for dim, other_dim in zip(array.dims, other.dims, strict=True):
        if not (is_named(dim) and is_named(other_dim)):
            continue
        if dim != other_dim:
            raise ValueError(f"expected {name} over the dimensions {other.dims} of {other_name}, got {array.dims}")
        require_same_coordinates(name, array, other_name, other, str(dim))


def require_same_coordinates(name: str, array: xr.DataArray, other_name: str, other: xr.DataArray, dim: str) -> None:
    """``ValueError`` if both have coordinates of a dimension that differ, or differ in order."""
    if dim in array.coords and dim in other.coords and not np.array_equal(array[dim].values, other[dim].values):
        raise ValueError(
            f"expected {name} with the coordinates {dim!r} of {other_name}, got others "
            f"({array[dim].values[:3].tolist()}... instead of {other[dim].values[:3].tolist()}...)"
        )


def is_named(dim: object) -> bool:
    """Whether a dimension was named by the user: xarray names others dim_0, dim_1, ..."""
    return re.fullmatch(r"dim_\d+", str(dim)) is None
