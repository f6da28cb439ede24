"""PIT values before and after a recalibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.diagnostics.calibration.transform import pit_array
from posterity.inference.plots._style import ink, series, tint
from posterity.inference.plots.pit_ecdf import largest_distance, plot_pit_ecdf


def plot_recalibration(
    before: xr.Dataset,
    after: xr.Dataset,
    *,
    prob: float = 0.95,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str = "ECDF(u) - u",
    colors: Sequence[Any] | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """ECDFs of ``pit`` minus the diagonal, of the same observations before and after, in one band.

    Both are results of `pit` on observations outside the fit and the calibration split: on its own calibration data any
    isotonic map looks perfect. The legend gives the largest distance from the diagonal.

    Args:
        before: a result of `pit`.
        after: a result of `pit` or `Recalibrator.recalibrated_pit`.
        prob: probability of the band.
        ax: axes, by default those of a new figure.
        xlabel: label of x.
        ylabel: label of y.
        colors: two colours.
        plot_kwargs: settings of the curves.

    Returns:
        The axes.

    Raises:
        ValueError: as `plot_pit_ecdf`.

    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> even = xr.Dataset({"pit": ("obs", (np.arange(100) + 0.5) / 100)})
    >>> ax = plot_recalibration(even**1.3, even, ax=Figure().subplots())
    >>> ax.get_legend_handles_labels()[1][1:]
    ['before: off by up to 0.101', 'after: off by up to 0.005']
    """
    named = {
        f"{name}: off by up to {largest_distance(pit_array(values)):.3f}": values
        for name, values in (("before", before), ("after", after))
    }
    colours = [tint(ax, ink(), 0.55), series(1)[0]] if colors is None else series(2, colors)
    return plot_pit_ecdf(named, prob=prob, ax=ax, xlabel=xlabel, ylabel=ylabel, colors=colours, plot_kwargs=plot_kwargs)
