"""Simulation-based calibration: are the ranks of the true values among the draws uniform?"""

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

    Takes what `sbc` returns: ``pit`` (randomised ranks in [0, 1]) over ("simulation", "quantity"); of it the
    ``quantities`` by name, or all. All curves of a right inference stay in their bands together with probability
    ``prob`` at least: each band has 1 - (1 - ``prob``)/Q of Q quantities (Bonferroni), as quantities share simulations.
    Read it as `plot_pit_ecdf`: up, down and up again are posteriors that are too narrow. ``plot_kwargs`` are for the
    curves. ``ax`` are as many axes as there are quantities, or a new figure's.
    Returns the axes of one quantity, or an array of them. Raises ``ValueError`` for another Dataset, quantities that it
    does not have, and as `pit_ecdf`.

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
    found = small_multiples(len(names), ax, figsize)
    together = "" if len(names) == 1 else f" for all {len(names)}"
    reaches = []
    for one, name, curve in zip(found, names, curves, strict=True):
        reach = draw_band(one, curve, f"{prob:.0%} band{together}")
        label = f"{curve.attrs['n']:,} simulations"
        settings = options(Line2D, plot_kwargs, color=series(1)[0], linewidth=line(1.2), label=label)
        reaches.append(max(reach, draw_curve(one, curve, settings)))
        one.set_title(str(name))
    for one in found:  # on one scale
        frame(one, max(reaches), xlabel, ylabel)
        legend(one, loc="upper right")
    return one_or_array(found)
