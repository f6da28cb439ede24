"""ArviZ data, an ``InferenceData`` in ArviZ 0.23 and an ``xarray.DataTree`` in 1.x: made, looked into, kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from posterity.files import replacing
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz

SAMPLE_DIMS = ("chain", "draw")
INDEPENDENT = "independent draws, stored as one chain"
"""``attrs["sampling"]`` of draws that no Markov chain made: those of a guide, an ensemble, a bootstrap."""


def from_arrays(
    *,
    coords: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: dict[str, Any] | None = None,
    chains: bool = True,
    **groups: Mapping[str, Any],
) -> Any:
    """ArviZ data of arrays: ``from_arrays(posterior={"w": w}, observed_data={"y": y}, dims={"y": ["obs"]})``.

    Arrays are of shape (chain, draw, ...), in groups with "data" in their name (...). ``dims`` names the dimensions
    behind chain and draw of a variable, in whatever group it is (in ``log_likelihood`` there may be fewer: the first
    ones), and ``coords`` labels them; others are called ``<variable>_dim_<i>`` and counted from 0.

    ``chains=False`` says that no Markov chain made the draws (a guide, an ensemble): arrays are (draw, ...), stored
    as one chain, as `loo` and ``az.summary`` of both versions read them, and ``attrs["sampling"]`` says so.

    Raises ``ValueError`` for groups, dims, coords or attrs that are no mappings, arrays with a mask or too few
    dimensions, lengths that differ, or names that do not fit.

    >>> data = from_arrays(posterior={"w": np.zeros((4, 100, 3))}, observed_data={"y": [1.0, 2.0]})
    >>> group(data, "posterior")["w"].dims, group(data, "observed_data")["y"].dims
    (('chain', 'draw', 'w_dim_0'), ('y_dim_0',))
    """
    if not groups:
        raise ValueError("expected at least one group, such as posterior={...}, got none")
    for name, given in {**groups, "dims": dims, "coords": coords, "attrs": attrs}.items():
        if not isinstance(given, Mapping) and (name in groups or given is not None):
            raise ValueError(f"expected {name} as values by name, {{'y': ...}}, got {type(given).__name__}")
    variables = {variable for arrays in groups.values() for variable in arrays}
    if idle := [name for name in dims or {} if name not in variables]:
        raise ValueError(f"expected dims of the variables {sorted(map(str, variables))}, got others: {idle}")
    made = {}
    for name, arrays in groups.items():
        sample = () if "data" in name else SAMPLE_DIMS
        made[name] = xr.Dataset()
        for variable, array in arrays.items():
            if isinstance(array, np.ma.MaskedArray):
                raise ValueError(f"expected {name}[{variable!r}] without a mask, got a masked array")
            values = np.asarray(array)
            if sample and not chains:
                values = values[None]
            named = _dims(name, variable, values, sample, (dims or {}).get(variable))
            labels = {
                dim: (coords or {}).get(dim, np.arange(size)) for dim, size in zip(named, values.shape, strict=True)
            }
            try:
                made[name] = made[name].merge(xr.Dataset({variable: (named, values)}, labels), join="exact")
            except ValueError as error:
                sizes = dict(zip(named, values.shape, strict=True))
                raise ValueError(f"expected {name} of one length in each dimension, got {variable} {sizes}") from error
    known = {str(dim) for dataset in made.values() for dim in dataset.dims}
    if idle := [name for name in coords or {} if name not in known]:
        raise ValueError(f"expected coords of the dimensions {sorted(known)}, got others: {idle}")
    return from_groups(made, (attrs or {}) if chains else {"sampling": INDEPENDENT, **(attrs or {})})


def from_groups(groups: dict[str, xr.Dataset], attrs: dict[str, Any] | None = None) -> Any:
    """ArviZ data of the given groups: an ``InferenceData`` in ArviZ 0.23, an ``xarray.DataTree`` in 1.x."""
    attrs = attrs or {}
    if HAS_INFERENCE_DATA:
        return arviz().InferenceData(attrs=attrs, **groups)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def group(data: Any, name: str) -> xr.Dataset:
    """One group of ArviZ data as a ``Dataset``; ``ValueError`` naming the groups there are if it is missing."""
    names = group_names(data)
    if name not in names:
        raise ValueError(f"expected ArviZ data with a group {name!r}, got groups {names}")
    found = data[name]
    return found.to_dataset() if hasattr(found, "to_dataset") else found


def group_names(data: Any) -> list[str]:
    """The groups of ArviZ data; ``ValueError`` for anything else."""
    if HAS_INFERENCE_DATA and isinstance(data, arviz().InferenceData):
        return list(data.groups())
    if isinstance(data, xr.DataTree):
        return list(data.children)
    raise ValueError(f"expected ArviZ data (InferenceData or DataTree), got {type(data).__name__}")


def save(data: Any, path: str | Path) -> Path:
    """Write ArviZ data as netCDF (h5netcdf), to a temporary name first, so that a crash leaves no half a file."""
    with replacing(path) as temporary:
        data.to_netcdf(str(temporary), engine="h5netcdf")
    return Path(path)


def load(path: str | Path) -> Any:
    """Read ArviZ data that `save` wrote, all of it into memory."""
    if HAS_INFERENCE_DATA:
        data = arviz().from_netcdf(str(path), engine="h5netcdf").load()
        data.close()
        return data
    with xr.open_datatree(str(path), engine="h5netcdf") as tree:
        return tree.load()


def _dims(
    group_name: str, variable: str, values: np.ndarray, sample: tuple[str, ...], named: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of an array's dimensions; ``ValueError`` where there are too few, or not as many as names."""
    own = values.ndim - len(sample)
    if own < 0:
        raise ValueError(f"expected {group_name}[{variable!r}] of shape (chain, draw, ...), got {values.shape}")
    if named is None:
        named = [f"{variable}_dim_{i}" for i in range(own)]
    if len(named) != own and not (group_name == "log_likelihood" and own < len(named)):
        raise ValueError(f"expected {group_name}[{variable!r}] with dimensions {list(named)}, got {values.shape}")
    return (*sample, *named[:own])
