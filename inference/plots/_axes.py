"""What the plots share: axes, panels, and checks of their input."""

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
"""Width and height of one of several panels, as a factor of the reader's figure."""
MOST = 30
LETTER = 0.58
"""Width of a letter, generously, in sizes of the font."""


def axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is None:
        return plt.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise ValueError(f"expected ax to be matplotlib axes, got {type(ax).__name__}")
    return ax


def panels(
    rows: int, columns: int, ax: Any = None, figsize: tuple[float, float] | None = None, **shared: Any
) -> np.ndarray:
    """Axes (rows, columns): those given, in any shape, or those of a new figure."""
    if ax is not None:
        flat = list(np.asarray(ax, dtype=object).ravel()) if isinstance(ax, np.ndarray | list | tuple) else [ax]
        given = np.array([axes(one) for one in flat], dtype=object)
        if given.size != rows * columns:
            raise ValueError(f"expected {rows * columns} axes, got {given.size}")
        return given.reshape(rows, columns)
    check_figsize(figsize)
    if figsize is None:
        width, height = mpl.rcParams["figure.figsize"]
        # Panels grow with the reader's letters, or titles and legends of neighbours would meet.
        letters = max(1.0, mpl.rcParams["font.size"] / mpl.rcParamsDefault["font.size"])
        factor = PANEL * letters if rows * columns > 1 else 1.0
        figsize = (factor * columns * width, factor * rows * height)
    return plt.subplots(rows, columns, figsize=figsize, squeeze=False, layout="constrained", **shared)[1]


def small_multiples(count: int, ax: Any = None, figsize: tuple[float, float] | None = None) -> list[Axes]:
    """``count`` axes, three in a row at most."""
    if ax is not None:
        return list(panels(1, count, ax)[0])
    rows = math.ceil(count / 3)
    found = list(panels(rows, math.ceil(count / rows), None, figsize).ravel())
    for spare in found[count:]:
        spare.remove()
    return found[:count]


def one_or_array(found: Sequence[Axes]) -> Axes | np.ndarray:
    """As ArviZ returns them: the axes of one panel by themselves, those of several in an array."""
    return found[0] if len(found) == 1 else np.array(found, dtype=object)


def titled(ax: Axes, text: str) -> None:
    """A title in lines that are as long as the axes are wide.

    Broken here, not by matplotlib while it draws: a layout keeps room for lines it knows of.
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
    """The coordinates of ``dim`` that are asked for, all by default.

    ``ValueError`` where one is not there, or for more than a page holds.
    """
    if dim not in result[variable].dims:
        raise ValueError(f"expected {variable} over {dim!r}, got {result[variable].dims}")
    there = result[dim].values.tolist()
    if not there:
        raise ValueError(f"expected a result with at least one {dim}, got none")
    wanted = there if names is None else check_names(f"names of {dim}", names)
    if not wanted or not set(wanted) <= set(there):
        raise ValueError(f"expected names of {dim} from {there}, got {wanted}")
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
    """Settings of an artist: the reader's before ours, whichever of a setting's names (``lw``) he uses."""
    return {**defaults, **normalize_kwargs(dict(given or {}), artist)}


def places(x: np.ndarray, y: Values | None, x_data: Values | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the data are: at ``x_data``, or at the x of the prediction; none without ``y``.

    ``ValueError`` for ``x_data`` alone, or another length.
    """
    if y is None:
        if x_data is not None:
            raise ValueError("expected y beside x_data, got None")
        return np.empty(0), np.empty(0)
    at = x if x_data is None else vector("x_data", x_data)
    return at, vector("y", y, len(at))


def points(ax: Axes, at: np.ndarray, y: np.ndarray, colour: Any = None) -> None:
    """Data over a band or an image, smaller where there are many."""
    if not len(at):
        return
    size = float(np.clip(50 / np.sqrt(len(at)), 2.2, 5.0)) / 6
    edge = line(0.25) if size > 0.6 else 0.0
    colour = ink() if colour is None else colour
    paper = ax.get_facecolor()
    ax.scatter(at, y, s=marker(size) ** 2, color=colour, edgecolors=paper, linewidths=edge, zorder=4, label="data")
