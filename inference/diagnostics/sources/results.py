"""The check of results that one diagnostic, or a plot, takes from another."""

from typing import Any

import xarray as xr


def check_result(function: str, result: Any, *names: str) -> xr.Dataset:
    """A Dataset with the variables ``names``, real numbers, as ``function`` returns it; ``ValueError`` otherwise."""
    if not isinstance(result, xr.Dataset) or not set(names) <= set(result.variables):
        raise ValueError(f"expected a result of {function}(), with {', '.join(names)}, got {contents(result)}")
    for name in names:
        if name in result.data_vars and result[name].dtype.kind not in "biuf":
            raise ValueError(f"expected a result of {function}() with {name} as real numbers, got {result[name].dtype}")
    return result


def contents(result: Any) -> Any:
    """For a message: the names of the variables of a Dataset, or the type of anything else."""
    if isinstance(result, xr.Dataset):
        return [str(name) for name in result.variables]
    return type(result).__name__
