"""Simulation-based calibration: the distribution of the ranks of true values among posterior draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.calibration.ecdf import pit_ecdf
from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.plots._axes import chosen, one_or_array, options, small_multiples
from posterity.inference.plots._ecdf import draw_band, draw_curve, frame
from posterity.inference.plots._style import legend, line, series
from posterity.validation import check_number


def plot_sbc(
    result: xr.Dataset,
    *,
    quantities: Sequence[str] | None = None,
    prob: float = 0.95,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    xlabel: str = "rank of the truth / draws",
    ylabel: str = "ECDF - uniform",
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes | np.ndarray:
    """For each quantity the ECDF of the ranks minus the diagonal, with a band for all of them.

    For a right inference, all curves stay in their bands together with probability ``prob`` at least: each band has the
    probability 1 - (1 - ``prob``)/Q for Q quantities (Bonferroni), since quantities share simulations. Read the curves
    as those of `plot_pit_ecdf`: up, down and up again means posteriors that are too narrow.

    Args:
        result: a result of `sbc`.
        quantities: names of the quantities, by default all.
        prob: probability of all bands together.
        ax: one axes for each quantity, by default those of a new figure.
        figsize: size of the new figure, in inches.
        xlabel: label of x.
        ylabel: label of y.
        plot_kwargs: settings of the curves.

    Returns:
        The axes of one quantity, or an array of them.

    Raises:
        ValueError: if ``result`` is not a result of `sbc`, or quantities do not exist, and as `pit_ecdf`.

    >>> from matplotlib.figure import Figure
    >>> even = xr.Dataset({"pit": (("simulation", "quantity"), (np.arange(100)[:, None] + 0.5) / 100)})
    >>> ax = plot_sbc(even.assign_coords(quantity=["slope"]), ax=Figure().subplots())
    >>> ax.get_title(), ax.get_legend_handles_labels()[1]
    ('slope', ['95% band', '100 simulations'])
    """
    check_result("sbc", result, "pit")
    names = chosen(result, "pit", "quantity", quantities)
    check_number("prob", prob, "(0, 1)")
    each = 1 - (1 - prob) / len(names)
    curves = [pit_ecdf(result[["pit"]].sel(quantity=name), prob=each) for name in names]
    panels = small_multiples(len(names), ax, figsize)
    together = "" if len(names) == 1 else f" for all {len(names)}"
    reaches = []
    for one, name, curve in zip(panels, names, curves, strict=True):
        reach = draw_band(one, curve, f"{prob:.0%} band{together}")
        label = f"{curve.attrs['n']:,} simulations"
        settings = options(Line2D, plot_kwargs, color=series(1)[0], linewidth=line(1.2), label=label)
        reaches.append(max(reach, draw_curve(one, curve, settings)))
        one.set_title(str(name))
    for one in panels:  # on one scale
        frame(one, max(reaches), xlabel, ylabel)
        legend(one, loc="upper right")
    return one_or_array(panels)
