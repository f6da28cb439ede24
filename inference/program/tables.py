"""Tables as arguments of a model: frames and `Observations` become tensors, and the names of their columns are kept.

The names are stored in the ``attrs`` of a posterior as text, so that every file format keeps them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posterity.data import Observations
from posterity.data.frames import is_frame, read_numbers
from posterity.data.observations import DefaultNames

Names = tuple[str, ...] | None
"""Names of the columns of one argument; None if they have no names."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The values (N, D) or (N,) of an argument, and the names of its columns."""

    values: Tensor
    names: Names


def expand_observations(args: tuple[Any, ...], targets: bool = True) -> tuple[Any, ...]:
    """x and y of an `Observations` that is the only argument, without ``targets`` x alone; other arguments unchanged.

    Raises ``ValueError`` for an `Observations` beside other arguments.
    """
    if not any(isinstance(value, Observations) for value in args):
        return args
    if len(args) > 1:
        raise ValueError(f"expected an Observations as the only argument by position, got {len(args)} arguments")
    data = args[0]
    x, y = (
        Columns(values, None if isinstance(names, DefaultNames) else names)
        for values, names in ((data.x, data.x_names), (data.y, data.y_names))
    )
    return (x, y) if targets else (x,)


def read_table(value: Any, label: str) -> Any:
    """A frame as `Columns`; other values unchanged. Raises the errors of `posterity.data.frames.read_numbers`."""
    if not is_frame(value):
        return value
    numbers, names = read_numbers(value, label)
    return Columns(torch.from_numpy(numbers), names)


def read_tables(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with every table as `Columns`."""
    return tuple(read_table(value, f"argument {position}") for position, value in enumerate(expand_observations(args)))


def column_names(value: Any) -> Names:
    """The names of the columns of a table, or the name of a column of pandas, polars or xarray."""
    if isinstance(value, Columns):
        return value.names
    name = getattr(value, "name", None) if hasattr(value, "to_numpy") else None
    return (str(name),) if name not in (None, "") else None


def order_as_fitted(args: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments with the columns of tables in the order of the fit; ``attrs`` are those of the posterior.

    Raises ``ValueError`` if a table has other columns than in the fit.
    """
    x, y = names_from_attrs(attrs)
    tables = read_tables(args)
    ordered = [_put_in_order(*given) for given in zip(tables, [*x, y], range(len(args)), strict=False)]
    return (*ordered, *tables[len(ordered) :])


def _put_in_order(value: Any, wanted: Names, position: int) -> Any:
    given = value.names if isinstance(value, Columns) and value.values.ndim == 2 else None
    if given is None or wanted is None or given == wanted:
        return value
    absent, further = [n for n in wanted if n not in given], [n for n in given if n not in wanted]
    if absent or further:
        parts = [f"none of {absent}"] * bool(absent) + [f"the further columns {further}"] * bool(further)
        raise ValueError(f"expected argument {position} with the columns of the fit, got {' and '.join(parts)}")
    return Columns(value.values[:, [given.index(name) for name in wanted]], wanted)


def names_to_attrs(args: tuple[Any, ...]) -> dict[str, str]:
    """The names of the columns of all arguments, of which the last that is not None is y; empty if there are none.

    ``x_names`` has one entry for each argument before y.
    """
    last = max((place for place, value in enumerate(args) if value is not None), default=-1)
    *x, y = [column_names(value) for value in args[: last + 1]] or [None]
    if y is None and not any(x):
        return {}
    return {"x_names": json.dumps(x), "y_names": json.dumps(y)}


def names_from_attrs(attrs: Mapping[str, Any]) -> tuple[list[Names], Names]:
    """The names of the columns of each argument before y, and of y, from the ``attrs`` of a posterior."""
    x, y = json.loads(attrs.get("x_names", "[]")), json.loads(attrs.get("y_names", "null"))
    return [None if names is None else tuple(names) for names in x], None if y is None else tuple(y)
