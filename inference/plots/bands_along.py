"""The predictive of a table along one of its columns, with the other columns fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from posterity.inference.plots._axes import axes, has_columns, named, points, titled, vector
from posterity.inference.plots._slice import slice_table
from posterity.inference.plots._style import legend
from posterity.inference.plots.bands import plot_bands
from posterity.validation import check_integer

if TYPE_CHECKING:
    from posterity.data import Observations
    from posterity.inference.plots._axes import Values

NAMED = 4
"""Most fixed columns that the title names."""

PALE = 0.35
"""Opacity of the data, whose other columns differ from the fixed ones."""

POINTS = 1000
"""Most observations that are drawn, evenly spaced over the rows."""


def plot_bands_along(
    source: Any,
    data: Observations | Any,
    column: str | int,
    *,
    y: Values | None = None,
    at: str | int | Mapping[str, Any] = "median",
    resolution: int = 200,
    draws: int = 400,
    levels: Sequence[float] = (0.5, 0.9),
    split: bool = True,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """`plot_bands` of a model of several inputs, along one ``column`` from its smallest to its largest value.

    The other columns are fixed at their medians, and categories at the most frequent one; the title names them. The
    data are pale, since their other columns differ from the fixed ones. The curve is a slice of the predictive, not the
    average effect of the column.

    Args:
        source: a `Posterior`, or a fitted estimator of `posterity.inference.estimators`.
        data: the inputs, with the columns of the fit: `Observations`, a frame of pandas or polars, or an array (N, D).
        column: name or number of the column.
        y: observations (N,); by default those of ``data``, if these are `Observations`.
        at: values of the other columns: "median", the number of a row of ``data``, or values by name for some columns,
            such as ``{"age": 40, "site": "a"}``.
        resolution: number of points of the grid.
        draws: most posterior draws of a `Posterior` that are used.
        levels: as for `plot_bands`.
        split: as for `plot_bands`.
        ax: axes, by default those of a new figure.
        xlabel: label of x, by default the name of the column.
        ylabel: label of y, by default the name of the target.
        plot_kwargs: as for `plot_bands`.

    Returns:
        The axes.

    Raises:
        ValueError: if ``source`` does not predict, the column does not exist, does not vary or is a category, or ``at``
            does not fit the columns; and as `plot_bands`.
    """
    check_integer("resolution", resolution, 2)
    check_integer("draws", draws, 1)
    part = slice_table(data, column, at, resolution)
    observed = data.y if y is None and has_columns(data) else y
    target = None if observed is None else vector("y", observed, len(part.values))
    predictive = _predict(source, part.table, draws)
    own_name: tuple[str, ...] = getattr(source, "y_names", ())
    names = named(None, data if has_columns(data) else y, xlabel or part.name, ylabel)
    if ylabel is None and names[1] == "y" and len(own_name) == 1:
        names = (names[0], own_name[0])
    ax = plot_bands(
        predictive, part.grid, levels=levels, split=split, ax=axes(ax), xlabel=names[0], ylabel=names[1],
        plot_kwargs=plot_kwargs,
    )  # fmt: skip
    if target is not None:
        rows = np.linspace(0, len(target) - 1, min(len(target), POINTS)).round().astype(int)
        rows = rows[~np.isnan(part.values[rows])]
        points(ax, part.values[rows], target[rows], alpha=PALE)
        legend(ax, frame=True)
    if part.fixed:
        titled(ax, _words(part.fixed, at))
    return ax


def _predict(source: Any, table: Any, draws: int) -> Any:
    if hasattr(source, "predict_distribution"):
        return source.predict_distribution(table)
    if hasattr(source, "predictive"):
        return source.predictive(table, draws=min(draws, source.num_chains * source.num_draws))
    raise ValueError(f"expected a Posterior or a fitted estimator, got {type(source).__name__}")


def _words(fixed: Mapping[str, Any], at: Any) -> str:
    """The fixed columns; of one-hot columns those that are 1."""
    parts = []
    for name, value in fixed.items():
        if "=" not in name:
            parts.append(f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}")
        elif value == 1:
            parts.append(name.replace("=", " = ", 1))
    if len(parts) <= NAMED:
        return ", ".join(parts)
    where = "at their medians" if isinstance(at, str) else f"as in row {at}" if isinstance(at, int) else "fixed"
    return f"{len(parts)} other columns {where}"
