"""A table along one column: the other columns are fixed at their medians, categories at the most frequent one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posterity.inference.plots._axes import has_columns
from posterity.validation import is_integer, shown, to_numbers


@dataclass(frozen=True)
class TableSlice:
    """A column over its ``grid`` (R,), and the ``table`` (of the kind of the data) at which a model predicts.

    ``values`` (N,) is the column in the data, ``fixed`` has the values of the other columns by name.
    """

    name: str
    grid: np.ndarray
    table: Any
    values: np.ndarray
    fixed: dict[str, Any]


def slice_table(data: Any, column: str | int, at: Any, resolution: int) -> TableSlice:
    """The slice of `Observations`, a frame or an array (N, D) along a ``column``, given by name or number.

    ``at`` is "median", the number of a row, or a mapping from names to values, for the columns that it names. Columns
    "site=a" and "site=b" of `Observations.from_frame` are one category "site".

    Raises ``ValueError`` for a column that does not exist, is a category or has one value, or another ``at``.
    """
    columns = _columns(data)
    names, labels = list(columns), {label: str(label) for label in getattr(data, "columns", ()) if is_integer(label)}
    column = labels.get(column, column) if is_integer(column) else column  # pandas may name columns by numbers
    at = {labels.get(name, name): value for name, value in at.items()} if isinstance(at, Mapping) else at
    empty = [one for one, values in columns.items() if values.dtype.kind == "f" and np.isnan(values).all()]
    if empty:
        raise ValueError(f"expected data with numbers in every column, got none in {empty}")
    number = names.index(column) if isinstance(column, str) and column in names else column
    if not is_integer(number) or not 0 <= number < len(names):
        raise ValueError(f"expected column to be one of {names}, or its number, got {shown(column)}")
    name, values = names[number], list(columns.values())[number]
    groups = _one_hot_groups(columns)
    if values.dtype.kind != "f" or any(name in group for group in groups.values()):
        raise ValueError(f"expected a column of numbers, got the category {name!r}")
    low, high = np.nanmin(values), np.nanmax(values)
    if low == high:
        raise ValueError(f"expected a column that varies, got {name!r}, which is {low:g} in all rows")
    fixed = _fixed(columns, groups, at)
    if isinstance(at, Mapping) and name in at:
        raise ValueError(f"expected at without {name!r}, the column along which the predictive is drawn, got {at}")
    del fixed[name]
    grid = np.linspace(low, high, resolution)
    table = {one: grid if one == name else np.array([fixed[one]] * resolution) for one in names}
    return TableSlice(name, grid, _rebuilt(data, table), values, fixed)


def _columns(data: Any) -> dict[str, np.ndarray]:
    """Columns by name, numbers in float64 with nan for missing ones, categories as objects."""
    from posterity.data.frames import column_values, is_frame

    if not has_columns(data) and is_frame(data):
        columns = {}
        for name in map(str, data.columns):
            values, there = column_values(data, name)
            columns[name] = values if values.dtype.kind == "f" else np.where(there, values, np.array(None))
        return columns
    table = to_numbers("x", data.x if has_columns(data) else data)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"expected data as Observations, a frame or an array (N, D), got shape {table.shape}")
    names = data.x_names if has_columns(data) else [f"x{i}" for i in range(table.shape[1])]
    return dict(zip(names, table.T, strict=True))


def _one_hot_groups(columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Columns "name=value" of zeros and ones of which one is 1 in each row, as `Observations.from_frame` makes them."""
    groups: dict[str, list[str]] = {}
    for name in columns:
        if "=" in name:
            groups.setdefault(name.partition("=")[0], []).append(name)
    found = {}
    for column, names in groups.items():
        table = [columns[name] for name in names]
        if all(np.isin(values, (0.0, 1.0)).all() for values in table) and (np.sum(table, 0) <= 1).all():
            found[column] = names
    return found


def _fixed(columns: Mapping[str, np.ndarray], groups: Mapping[str, list[str]], at: Any) -> dict[str, Any]:
    """The value of each column."""
    if is_integer(at):
        rows = len(next(iter(columns.values())))
        if not 0 <= at < rows:
            raise ValueError(f"expected at to be a row from 0 to {rows - 1}, got {at}")
        return {name: values[at] for name, values in columns.items()}
    if not isinstance(at, Mapping) and not (isinstance(at, str) and at == "median"):
        raise ValueError(f'expected at to be "median", the number of a row or values by name, got {shown(at)}')
    given = dict(at) if isinstance(at, Mapping) else {}
    grouped = {name for names in groups.values() for name in names}
    known = [*(name for name in columns if name not in grouped), *groups]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"expected at to name columns of {known}, got {unknown}")
    fixed = {name: _typical(values) for name, values in columns.items()}
    for column, names in groups.items():
        best = max(names, key=lambda name: columns[name].sum())
        chosen = f"{column}={given.pop(column)}" if column in given else best
        if chosen not in names:
            raise ValueError(f"expected at with one of {names}, got {chosen!r}")
        fixed |= {name: float(name == chosen) for name in names}
    return fixed | given


def _typical(values: np.ndarray) -> Any:
    """The median of numbers; of categories, and of zeros and ones, the most frequent one."""
    there = values[~np.isnan(values)] if values.dtype.kind == "f" else np.array([v for v in values if v is not None])
    known, counts = np.unique(there, return_counts=True)
    return np.median(there) if values.dtype.kind == "f" and set(known) - {0.0, 1.0} else known[counts.argmax()]


def _rebuilt(data: Any, table: dict[str, np.ndarray]) -> Any:
    """The table as the kind of the data."""
    if has_columns(data):
        import torch

        from posterity.data import Observations

        x = torch.as_tensor(np.stack(list(table.values()), 1)).to(data.x)
        return Observations(x, data.y[:1].expand(len(x), *data.y.shape[1:]), data.x_names, data.y_names)
    if not hasattr(data, "columns"):
        return np.stack(list(table.values()), 1)
    labels = {str(label): label for label in data.columns}
    return type(data)({labels[name]: values for name, values in table.items()})
