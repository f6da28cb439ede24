"""The observed sites and the inputs of a model as variables of ArviZ data: their rows, dimensions and coordinates."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from torch import Tensor

from posterity.inference.export import ArvizNames, UnmaskedRows, observation_dims, to_dataset, unmasked_rows
from posterity.inference.program.likelihood import ScoredDraws
from posterity.inference.program.nested import leaves
from posterity.inference.program.tables import Names


@dataclass(frozen=True, eq=False)
class ExportedSite:
    """An observed site as a variable: its name, its unmasked ``rows``, and their dimensions and coordinates.

    ``all_dims`` are the dimensions of y with all rows. ``targets`` are the coordinates of several targets by name.
    """

    variable: str
    rows: UnmaskedRows
    dims: tuple[str, ...]
    all_dims: tuple[str, ...]
    targets: dict[str, Any] = field(default_factory=dict)

    @property
    def coords(self) -> dict[str, Any]:
        """The index of each remaining row, and the names of targets."""
        return self.rows.coords | self.targets


def export_sites(names: ArvizNames, scores: Mapping[str, ScoredDraws], y_names: Names) -> dict[str, ExportedSite]:
    """The observed sites as variables, without those that are masked as a whole.

    Sites share the dimension of a plate if they have the same rows there; otherwise the later site has one of its own.

    Raises ``ValueError`` if all observations are masked.
    """
    exported: dict[str, ExportedSite] = {}
    known: dict[str, list[int]] = {}  # the rows along each dimension
    for site, score in scores.items():
        if len(scores) > 1 and not bool(score.scored_rows.any()) and any(s.scored.any() for s in scores.values()):
            continue
        y, likelihood = score.observation.value, score.likelihood
        all_dims = observation_dims(names, site, score.observation.plates, y.ndim)
        batch = len(likelihood.batch_shape) - 1
        rows = unmasked_rows(names, all_dims[:batch], score.scored_rows)
        remaining = {dim: index.tolist() for dim, index in zip(rows.dims, rows.index, strict=True)}
        remaining |= {dim: list(range(size)) for dim, size in zip(all_dims[batch:], y.shape[batch:], strict=True)}
        own = {dim: names.dimension(f"{dim}_{site}", site) for dim, at in remaining.items() if known.get(dim, at) != at}
        if own:
            all_dims = tuple(own.get(dim, dim) for dim in all_dims)
            stacked = names.dimension(f"{rows.stacked}_{site}", site) if rows.stacked else None
            rows = UnmaskedRows(all_dims[:batch], rows.shape, rows.index, stacked)
        known |= {own.get(dim, dim): at for dim, at in remaining.items()}
        targets = {}
        if len(likelihood.event_shape) == 1:
            targets = name_coordinate(all_dims[-1:], y_names, y.shape[-1:])
        exported[site] = ExportedSite(names.variables[site], rows, rows.selected_dims(all_dims), all_dims, targets)
    return exported


def numbered(
    inputs: tuple[Any, ...], names: list[Names], without: Collection[int] = ()
) -> dict[str, tuple[Tensor, Names]]:
    """The inputs, but not those at the places ``without``, with the names of their columns.

    They are called x, or x0, x1, ... if there are several; data of a dictionary have their keys as names.
    """
    named = [*names, *[None] * len(inputs)]
    kept = [pair for place, pair in enumerate(zip(inputs, named, strict=False)) if place not in without]
    tensors = [pair for pair in kept if isinstance(pair[0], Tensor | dict)]
    found: dict[str, tuple[Tensor, Names]] = {}
    for place, (value, columns) in enumerate(tensors):
        if isinstance(value, Tensor):
            found["x" if len(tensors) == 1 else f"x{place}"] = (value, columns)
            continue
        data = {name: leaf for name, leaf in leaves(value) if isinstance(leaf, Tensor)}
        found |= {name if name not in found else f"x{place}.{name}": (leaf, None) for name, leaf in data.items()}
    return found


def name_coordinate(dims: tuple[str, ...], names: Names, shape: tuple[int, ...]) -> dict[str, Any]:
    """The names of columns as the coordinate of their dimension, the only one of ``dims``; {} without names."""
    return {dims[0]: (dims[0], list(names))} if names and len(dims) == 1 and shape == (len(names),) else {}


def input_dataset(
    names: ArvizNames, inputs: Mapping[str, tuple[Tensor, Names]], rows: UnmaskedRows | None, dims: tuple[str, ...]
) -> xr.Dataset:
    """The inputs for the unmasked rows of y; ``dims`` are the dimensions of y.

    An input of another length, such as one value for each group, has a dimension of its own.
    """
    first = (dims or (names.dimension("obs"),))[0]
    values: dict[str, Tensor] = {}
    input_dims: dict[str, tuple[str, ...]] = {}
    coords = {} if rows is None else rows.coords
    sizes = {dim: len(index) for dim, index in coords.values()}
    # The longest first, which has the rows of y.
    for name, (value, column_names) in sorted(
        inputs.items(), key=lambda item: -len(item[1][0]) if item[1][0].ndim else 0
    ):
        columns = names.site_dims(name, max(0, value.ndim - 1))
        coords |= name_coordinate(columns, column_names, value.shape[1:])
        if not value.ndim:
            values[name], input_dims[name] = value, ()
            continue
        value, along = (value, first) if rows is None else rows.select_input(value, first)
        if sizes.setdefault(along, len(value)) != len(value):
            along = names.dimension(f"{name}_dim", name)
        values[name], input_dims[name] = value, (along, *columns)
    return to_dataset({name: values[name] for name in inputs}, input_dims, coords)
