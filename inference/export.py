"""The groups of ArviZ data: their rows, and the names of variables and dimensions.

Only scored observations are exported: masked rows (and steps, and columns) are in no group. Diagnostics that read
observations (leave-one-out, pulls, coverage) therefore use the same observations as the fit. The remaining rows keep
their index as coordinate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.inference.arviz import SAMPLE_DIMS

RESERVED = {*SAMPLE_DIMS, "sample"}
STACKED = "unmasked"
"""The dimension of the unmasked elements, if they do not form a grid."""


class ArvizNames:
    """Names of variables and dimensions: unique, and without slashes, which would be paths in a file.

    A variable has the name of its site, with dots for slashes; a site called "chain", "draw" or "sample" gets the
    suffix "_site". A dimension gets the suffix "_dim" if a variable has the same name.
    """

    def __init__(self, sites: Iterable[str]) -> None:
        self.variables: dict[str, str] = {}
        self.dimensions: dict[tuple[str, str], str] = {}
        self.taken = set(RESERVED)
        for name in sorted(dict.fromkeys(sites), key=lambda name: name != _plain(name)):  # unchanged names first
            self.variables[name] = self._free(_plain(name), "_site")

    def dimension(self, name: str, owner: str = "") -> str:
        """The name of a plate's dimension, or, with an ``owner``, of a dimension of this variable alone."""
        if (name, owner) not in self.dimensions:
            self.dimensions[name, owner] = self._free(_plain(name), "_dim")
        return self.dimensions[name, owner]

    def site_dims(self, site: str, count: int) -> tuple[str, ...]:
        """The names of the ``count`` dimensions of one site that are not plates."""
        return tuple(self.dimension(f"{site}_dim_{i}", site) for i in range(count))

    def _free(self, name: str, suffix: str) -> str:
        while name in self.taken:
            name += suffix
        self.taken.add(name)
        return name


def _plain(name: str) -> str:
    return name.replace("/", ".").strip(" .") or "site"


def observation_dims(names: ArvizNames, site: str, plates: Sequence[str | None], ndim: int) -> tuple[str, ...]:
    """Dimensions of y from the left: its plates, or "obs" without a plate, and then its event dimensions."""
    known: list[str | None] = [*plates, *[None] * (ndim - len(plates))][:ndim]
    if known and not any(known):
        known[0] = "obs"
    without_plate = iter(names.site_dims(site, ndim))
    return tuple(names.dimension(name) if name else next(without_plate) for name in known)


@dataclass(frozen=True, eq=False)
class UnmaskedRows:
    """The unmasked elements of the batch of y, by their index along each of the ``dims``.

    ``shape`` is that of the whole batch. If the elements form a grid, ``stacked`` is None and each ``index`` lists the
    remaining rows, steps or columns. Otherwise ``stacked`` names one dimension over all elements, and each ``index``
    has one entry for each element.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    index: tuple[Tensor, ...]
    stacked: str | None

    def select(self, values: Tensor, lead: int = 0) -> Tensor:
        """The unmasked elements of ``values``, whose batch begins after ``lead`` dimensions."""
        if self.stacked is not None:
            return values[(slice(None),) * lead + self.index]
        for axis, index in enumerate(self.index):
            if len(index) < self.shape[axis]:
                values = values.index_select(lead + axis, index)
        return values

    def selected_dims(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """The dimensions of y after `select`."""
        return dims if self.stacked is None else (self.stacked, *dims[len(self.dims) :])

    def select_input(self, value: Tensor, otherwise: str) -> tuple[Tensor, str]:
        """The unmasked rows of an input, and the dimension of its rows.

        An input whose length is not that of a dimension of y is returned unchanged, with the dimension ``otherwise``.
        """
        axis = next((axis for axis, size in enumerate(self.shape) if size == len(value)), None)
        if axis is None:
            return value, otherwise
        if self.stacked is not None or len(self.index[axis]) < self.shape[axis]:
            value = value.index_select(0, self.index[axis].to(value.device))
        return value, self.stacked or self.dims[axis]

    @property
    def coords(self) -> dict[str, Any]:
        """The index of each remaining row (step, column)."""
        along = self.dims if self.stacked is None else (self.stacked,) * len(self.dims)
        return {name: (dim, index.cpu().numpy()) for name, dim, index in zip(self.dims, along, self.index, strict=True)}


def unmasked_rows(names: ArvizNames, dims: tuple[str, ...], scored: Tensor) -> UnmaskedRows:
    """The `UnmaskedRows` of a batch with these ``dims``; ``scored`` is False for masked elements.

    Raises ``ValueError`` if no element is scored.
    """
    if not bool(scored.any()):
        raise ValueError(f"expected observations that the model scores, got {scored.numel()}, all masked out")
    axes = range(scored.ndim)
    along = [
        scored.any(tuple(other for other in axes if other != axis)) if scored.ndim > 1 else scored for axis in axes
    ]
    grid = torch.ones_like(scored)
    for axis, remaining in enumerate(along):
        grid = grid & remaining.reshape([-1 if other == axis else 1 for other in axes])
    shape = tuple(scored.shape)
    if torch.equal(grid, scored):
        return UnmaskedRows(dims, shape, tuple(remaining.nonzero()[:, 0] for remaining in along), None)
    return UnmaskedRows(dims, shape, tuple(scored.nonzero().unbind(1)), names.dimension(STACKED))


def to_dataset(
    values: Mapping[str, Tensor], dims: Mapping[str, tuple[str, ...]], coords: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """A dataset of variables with named dimensions; coordinates are ``coords``, or whole numbers from 0."""
    arrays = {name: (dims[name], value.detach().cpu().numpy()) for name, value in values.items()}
    sizes = {d: s for _, (named, array) in arrays.items() for d, s in zip(named, array.shape, strict=True)}
    numbers = {name: (name, np.arange(size)) for name, size in sizes.items()}
    known = {name: value for name, value in (coords or {}).items() if value[0] in sizes}
    return xr.Dataset(arrays, coords=numbers | known)
