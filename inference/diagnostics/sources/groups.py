"""Observations in groups: by the values of something discrete, or in bins of as many each of something continuous."""

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.labels import require_same
from posterity.validation import check_finite, check_integer, to_array

Groups = list[tuple[np.ndarray, dict[str, Any]]]
"""For every group the places of its observations, and its coordinates: ``group``, and of bins ``low`` and ``high``."""


def grouped(by: Any, dataset: xr.Dataset, count: int, bins: int, least: int) -> Groups:
    """The groups of ``count`` observations by ``by``: an array (N,), or the name of a variable or coordinate.

    Text, booleans, and numbers of at most ``bins`` different values are groups by themselves; other numbers are cut at
    quantiles in ``bins`` groups. Raises ``ValueError`` for another length, nan, or a group of fewer than ``least``.
    """
    if isinstance(by, str):
        if by not in dataset.variables:
            raise ValueError(f"expected by to be one of {[str(name) for name in dataset.variables]}, got {by!r}")
        shape = next(iter(dataset.data_vars.values()))
        by = dataset[by].broadcast_like(shape).transpose(*shape.dims)
    if isinstance(by, xr.DataArray):
        first = next(iter(dataset.data_vars.values()), None)
        if first is not None and by.shape == first.shape:
            require_same("by", by, "the observations", first)
    values = to_array(by, "by").reshape(-1)
    if values.dtype.kind not in "biufUSM" and not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected by, values to group by, as numbers, booleans, dates or text, got {values.dtype}")
    if len(values) != count:
        raise ValueError(f"expected by with {count} values, one for each observation, got {len(values)}")
    check_integer("bins", bins, 1)
    numeric = values.dtype.kind in "iuf"
    if numeric:
        check_finite("by, values to group by", values.astype(float))
    names = np.unique(values)
    if not numeric or len(names) <= bins:
        found: Groups = [(np.flatnonzero(values == name), {"group": name}) for name in names]
    else:
        found = _binned(values.astype(float), bins)
    for places, coords in found:
        if len(places) < least:
            raise ValueError(
                f"expected at least {least} observations in each group, got {len(places)} in {coords['group']!r}; "
                "use fewer bins, or put groups together"
            )
    return found


def _binned(values: np.ndarray, bins: int) -> Groups:
    order = np.argsort(values, kind="stable")
    # Ties stay together: a cut goes where the value changes.
    cuts = np.searchsorted(values[order], np.quantile(values, np.arange(1, bins) / bins), side="left")
    parts = [part for part in np.split(order, np.unique(cuts)) if len(part)]
    return [
        (part, {"group": values[part].mean(), "low": values[part].min(), "high": values[part].max()}) for part in parts
    ]


def over_groups(parts: list[xr.Dataset], groups: Groups) -> xr.Dataset:
    """One Dataset for each group, along "group", with the groups' coordinates."""
    coords = {
        name: ("group", np.array([place[name] for _, place in groups])) for name in groups[0][1] if name != "group"
    }
    labels = np.array([place["group"] for _, place in groups])
    return xr.concat(parts, dim="group", combine_attrs="override").assign_coords({"group": labels, **coords})
