"""ArviZ data, an ``InferenceData`` in ArviZ 0.23 and an ``xarray.DataTree`` in 1.x: construction, access, storage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from posterity.files import replacing
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz
from posterity.validation import refuse_mask

SAMPLE_DIMS = ("chain", "draw")
INDEPENDENT = "independent draws, stored as one chain"
"""``attrs["sampling"]`` of draws without a Markov chain: those of a guide, an ensemble, a bootstrap."""


def from_arrays(
    *,
    coords: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: dict[str, Any] | None = None,
    chains: bool = True,
    **groups: Mapping[str, Any],
) -> Any:
    """ArviZ data of arrays: ``from_arrays(posterior={"w": w}, observed_data={"y": y}, dims={"y": ["obs"]})``.

    Arrays have the shape (chain, draw, ...), without chain and draw in groups with "data" in their name.

    Args:
        coords: labels of dimensions, by default numbers from 0.
        dims: names of the dimensions after chain and draw of a variable, in every group that has it (in
            ``log_likelihood``
            there may be fewer: the first ones); by default ``<variable>_dim_<i>``.
        attrs: attributes of the data.
        chains: whether a Markov chain made the draws. Otherwise (a guide, an ensemble) arrays are (draw, ...) and
            stored as one chain, as `loo` and ``az.summary`` of both versions read them, and ``attrs["sampling"]`` says
            so.
        groups: variables of each group, by name.

    Raises:
        ValueError: if groups, dims, coords or attrs are not mappings, arrays are masked or have too few dimensions, or
            lengths or names do not match.

    >>> data = from_arrays(posterior={"w": np.zeros((4, 100, 3))}, observed_data={"y": [1.0, 2.0]})
    >>> group(data, "posterior")["w"].dims, group(data, "observed_data")["y"].dims
    (('chain', 'draw', 'w_dim_0'), ('y_dim_0',))
    """
    if not groups:
        raise ValueError("expected at least one group, such as posterior={...}, got none")
    for name, given in {**groups, "dims": dims, "coords": coords, "attrs": attrs}.items():
        if not isinstance(given, Mapping) and (name in groups or given is not None):
            raise ValueError(f"expected {name} to be values by name, {{'y': ...}}, got {type(given).__name__}")
    variables = {variable for arrays in groups.values() for variable in arrays}
    if unknown := [name for name in dims or {} if name not in variables]:
        raise ValueError(f"expected dims of the variables {sorted(map(str, variables))}, got others: {unknown}")
    made = {}
    for name, arrays in groups.items():
        sample = () if "data" in name else SAMPLE_DIMS
        made[name] = xr.Dataset()
        for variable, array in arrays.items():
            refuse_mask(f"{name}[{variable!r}]", array)
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
                raise ValueError(
                    f"expected {name} with one length of each dimension, got {variable} {sizes}"
                ) from error
    known = {str(dim) for dataset in made.values() for dim in dataset.dims}
    if unknown := [name for name in coords or {} if name not in known]:
        raise ValueError(f"expected coords of the dimensions {sorted(known)}, got others: {unknown}")
    return from_groups(made, (attrs or {}) if chains else {"sampling": INDEPENDENT, **(attrs or {})})


def from_groups(groups: dict[str, xr.Dataset], attrs: dict[str, Any] | None = None) -> Any:
    """ArviZ data of Datasets: an ``InferenceData`` in ArviZ 0.23, an ``xarray.DataTree`` in 1.x."""
    attrs = attrs or {}
    if HAS_INFERENCE_DATA:
        return arviz().InferenceData(attrs=attrs, **groups)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def group(data: Any, name: str) -> xr.Dataset:
    """One group of ArviZ data as a ``Dataset``; ``ValueError`` with the names of all groups if it is missing."""
    names = group_names(data)
    if name not in names:
        raise ValueError(f"expected ArviZ data with a group {name!r}, got groups {names}")
    dataset = data[name]
    return dataset.to_dataset() if hasattr(dataset, "to_dataset") else dataset


def group_names(data: Any) -> list[str]:
    """Names of the groups of ArviZ data; ``ValueError`` for anything else."""
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
    """ArviZ data that `save` wrote, read completely into memory."""
    if HAS_INFERENCE_DATA:
        data = arviz().from_netcdf(str(path), engine="h5netcdf").load()
        data.close()
        return data
    with xr.open_datatree(str(path), engine="h5netcdf") as tree:
        return tree.load()


def _dims(
    group_name: str, variable: str, values: np.ndarray, sample: tuple[str, ...], named: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the dimensions of an array; ``ValueError`` if there are too few, or names do not match."""
    own = values.ndim - len(sample)
    if own < 0:
        raise ValueError(f"expected {group_name}[{variable!r}] of shape (chain, draw, ...), got {values.shape}")
    if named is None:
        named = [f"{variable}_dim_{i}" for i in range(own)]
    if len(named) != own and not (group_name == "log_likelihood" and own < len(named)):
        raise ValueError(f"expected {group_name}[{variable!r}] with dimensions {list(named)}, got {values.shape}")
    return (*sample, *named[:own])
