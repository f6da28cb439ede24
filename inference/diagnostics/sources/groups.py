"""Observations in groups: one for each value of a discrete covariate, or quantile bins of a continuous one."""

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.labels import require_same
from posterity.validation import check_finite, check_integer, to_array

Groups = list[tuple[np.ndarray, dict[str, Any]]]
"""For each group the indices of its observations and its coordinates: ``group``, and of bins ``low`` and ``high``."""


def grouped(by: Any, dataset: xr.Dataset, count: int, bins: int, least: int, name: str = "by") -> Groups:
    """The groups of ``count`` observations by ``by``: an array (N,), or the name of a variable or coordinate.

    Each value of text, of booleans, and of numbers with at most ``bins`` different values is a group; other numbers are
    cut at quantiles into ``bins`` groups.

    Args:
        by: the covariate.
        dataset: holds the covariate if it is given by name; its first variable is over the observations.
        count: number of observations.
        bins: largest number of groups of a numeric covariate.
        least: fewest observations in a group.
        name: name of the argument, for messages.

    Raises:
        ValueError: if ``by`` has another length, contains nan, or makes a group of fewer than ``least`` observations.
    """
    if isinstance(by, str):
        if by not in dataset.variables:
            known = [str(variable) for variable in dataset.variables]
            raise ValueError(f"expected {name} to be one of {known}, got {by!r}")
        shape = next(iter(dataset.data_vars.values()))
        by = dataset[by].broadcast_like(shape).transpose(*shape.dims)
    if isinstance(by, xr.DataArray):
        first = next(iter(dataset.data_vars.values()), None)
        if first is not None and by.shape == first.shape:
            require_same(name, by, "the observations", first)
    values = to_array(by, name).reshape(-1)
    if values.dtype.kind not in "biufUSM" and not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected {name} to hold numbers, booleans, dates or text, got {values.dtype}")
    if len(values) != count:
        raise ValueError(f"expected {name} with {count} values, one for each observation, got {len(values)}")
    check_integer("bins", bins, 1)
    numeric = values.dtype.kind in "iuf"
    if numeric:
        check_finite(f"values of {name}", values.astype(float))
    labels = np.unique(values)
    if not numeric or len(labels) <= bins:
        groups: Groups = [(np.flatnonzero(values == label), {"group": label}) for label in labels]
    else:
        groups = _binned(values.astype(float), bins)
    for places, coords in groups:
        if len(places) < least:
            label = np.asarray(coords["group"]).item()
            raise ValueError(
                f"expected at least {least} observations in each group, got {len(places)} in {label!r}; use fewer "
                "bins, or join groups"
            )
    return groups


def _binned(values: np.ndarray, bins: int) -> Groups:
    order = np.argsort(values, kind="stable")
    # Cuts are placed where the value changes, so that ties stay together.
    cuts = np.searchsorted(values[order], np.quantile(values, np.arange(1, bins) / bins), side="left")
    parts = [part for part in np.split(order, np.unique(cuts)) if len(part)]
    return [
        (part, {"group": values[part].mean(), "low": values[part].min(), "high": values[part].max()}) for part in parts
    ]


def over_groups(parts: list[xr.Dataset], groups: Groups) -> xr.Dataset:
    """The Datasets of the groups joined along "group", with the coordinates of the groups."""
    coords = {
        name: ("group", np.array([place[name] for _, place in groups])) for name in groups[0][1] if name != "group"
    }
    labels = np.array([place["group"] for _, place in groups])
    return xr.concat(parts, dim="group", combine_attrs="override").assign_coords({"group": labels, **coords})
