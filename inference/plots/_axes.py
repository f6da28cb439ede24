"""Axes, panels, and checks of input, shared by all plots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.font_manager import FontProperties

from posterity.inference.plots._check import check_figsize
from posterity.inference.plots._style import ink, line, marker
from posterity.validation import check_finite, check_names, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

    Values = Tensor | np.ndarray | xr.DataArray | Sequence[float]

PANEL = 0.7
"""Width and height of one of several panels, as a factor of the user's figure size."""

MOST = 30
"""Largest number of panels."""

LETTER = 0.58
"""Upper estimate of the width of a letter, in font sizes."""


def axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is None:
        return plt.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise ValueError(f"expected ax to be matplotlib axes, got {type(ax).__name__}")
    return ax


def panels(
    rows: int, columns: int, ax: Any = None, figsize: tuple[float, float] | None = None, **shared: Any
) -> np.ndarray:
    """Axes (rows, columns): the given ones, in any shape, or those of a new figure."""
    if ax is not None:
        flat = list(np.asarray(ax, dtype=object).ravel()) if isinstance(ax, np.ndarray | list | tuple) else [ax]
        given = np.array([axes(one) for one in flat], dtype=object)
        if given.size != rows * columns:
            raise ValueError(f"expected {rows * columns} axes, got {given.size}")
        return given.reshape(rows, columns)
    check_figsize(figsize)
    if figsize is None:
        width, height = mpl.rcParams["figure.figsize"]
        # Panels grow with the font size, or titles and legends of neighbours would overlap.
        scale = max(1.0, mpl.rcParams["font.size"] / mpl.rcParamsDefault["font.size"])
        factor = PANEL * scale if rows * columns > 1 else 1.0
        figsize = (factor * columns * width, factor * rows * height)
    return plt.subplots(rows, columns, figsize=figsize, squeeze=False, layout="constrained", **shared)[1]


def small_multiples(count: int, ax: Any = None, figsize: tuple[float, float] | None = None) -> list[Axes]:
    """``count`` axes, at most three in a row."""
    if ax is not None:
        return list(panels(1, count, ax)[0])
    rows = math.ceil(count / 3)
    grid = list(panels(rows, math.ceil(count / rows), None, figsize).ravel())
    for spare in grid[count:]:
        spare.remove()
    return grid[:count]


def one_or_array(grid: Sequence[Axes]) -> Axes | np.ndarray:
    """A single panel as axes, several as an array, as in ArviZ."""
    return grid[0] if len(grid) == 1 else np.array(grid, dtype=object)


def titled(ax: Axes, text: str) -> None:
    """Set a title, broken into lines as long as the axes are wide.

    Matplotlib breaks lines only while drawing, when a layout no longer makes room for them.
    """
    size = FontProperties(size=mpl.rcParams["axes.titlesize"]).get_size_in_points()
    inches = ax.bbox.width / ax.figure.dpi
    ax.set_title(textwrap.fill(text, max(12, int(72 * inches / (LETTER * size)))))


def vector(name: str, values: Values, length: int | None = None) -> np.ndarray:
    """Finite values (N,) or (N, 1), N > 0, as float64 (N,); ``ValueError`` for another shape or length."""
    array = to_numbers(name, values)
    if array.ndim == 2 and array.shape[1] == 1:  # one feature, as models take it
        array = array[:, 0]
    if array.ndim != 1 or not len(array) or (length is not None and len(array) != length):
        wanted = "(N,)" if length is None else f"({length},)"
        raise ValueError(f"expected {name} of shape {wanted}, got {array.shape}")
    check_finite(name, array)
    return array


def chosen(result: xr.Dataset, variable: str, dim: str, names: Sequence[Any] | None) -> list[Any]:
    """The chosen coordinates of ``dim``, by default all.

    ``ValueError`` if one does not exist, or there are more than fit on a page.
    """
    if dim not in result[variable].dims:
        raise ValueError(f"expected {variable} over {dim!r}, got {result[variable].dims}")
    known = result[dim].values.tolist()
    if not known:
        raise ValueError(f"expected a result with at least one {dim}, got none")
    wanted = known if names is None else check_names(f"names of {dim}", names)
    if not wanted or not set(wanted) <= set(known):
        raise ValueError(f"expected names of {dim} from {known}, got {wanted}")
    if len(wanted) > MOST:
        raise ValueError(f"expected at most {MOST} panels in a figure, got {len(wanted)}: choose some by name")
    return wanted


def by_name(what: str, results: Any) -> dict[str, Any]:
    """Results by name: one alone has the name ''; ``ValueError`` where there is none."""
    if isinstance(results, xr.Dataset) or not isinstance(results, Mapping):
        return {"": results}
    if not results:
        raise ValueError(f"expected at least one {what}, got none")
    return {str(name): result for name, result in results.items()}


def options(artist: type[Artist], given: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """Settings of an artist: those of the user before the defaults, under any alias (``lw``)."""
    return {**defaults, **normalize_kwargs(dict(given or {}), artist)}


def places(x: np.ndarray, y: Any, x_data: Values | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of the data: at ``x_data``, or at the x of the prediction; empty without ``y``.

    ``y`` may be `Observations` of one input, with positions of their own.

    ``ValueError`` for ``x_data`` without y, or another length.
    """
    if has_columns(y):
        if x_data is not None:
            raise ValueError("expected no x_data with Observations, which have their own x, got x_data")
        return vector("x of y", y.x), vector("y", y.y)
    if y is None:
        if x_data is not None:
            raise ValueError("expected y with x_data, got None")
        return np.empty(0), np.empty(0)
    at = x if x_data is None else vector("x_data", x_data)
    return at, vector("y", y, len(at))


def has_columns(data: Any) -> bool:
    """Whether ``data`` is `posterity.data.Observations`, which this module does not import: it needs torch."""
    return all(hasattr(data, name) for name in ("x", "y", "x_names", "y_names"))


def named(x: Any, y: Any, xlabel: str | None, ylabel: str | None) -> tuple[str, str]:
    """Labels of both axes: the given ones, the names of `Observations` ``y``, or those of columns x and y."""
    names = [y.x_names[0], y.y_names[0]] if has_columns(y) else [_column_name(x, "x"), _column_name(y, "y")]
    return xlabel if xlabel is not None else names[0], ylabel if ylabel is not None else names[1]


def _column_name(values: Any, otherwise: str) -> str:
    """The name of a column of pandas, polars or xarray, or of the only column of a frame."""
    columns = list(getattr(values, "columns", ()))
    name = columns[0] if len(columns) == 1 else getattr(values, "name", None) if hasattr(values, "to_numpy") else None
    return otherwise if name is None or name == "" else str(name)


def points(ax: Axes, at: np.ndarray, y: np.ndarray, colour: Any = None, alpha: float = 1.0) -> None:
    """Data over a band or an image, smaller where there are many."""
    if not len(at):
        return
    size = float(np.clip(50 / np.sqrt(len(at)), 2.2, 5.0)) / 6
    edge = line(0.25) if size > 0.6 else 0.0
    colour = ink() if colour is None else colour
    paper = ax.get_facecolor()
    ax.scatter(
        at, y, s=marker(size) ** 2, color=colour, edgecolors=paper, linewidths=edge, alpha=alpha, zorder=4, label="data"
    )
