"""The distribution of PIT values, as its difference from uniform.

The ECDF is drawn instead of a histogram, since it needs no bins and has an exact simultaneous band. Its slope shows the
fault: where the curve rises there are too many y. Up, down through zero and up again means a predictive that is too
narrow; the opposite (down first), one that is too wide; a bow to one side, a bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.calibration.ecdf import pit_ecdf
from posterity.inference.plots._axes import axes, by_name, options
from posterity.inference.plots._ecdf import draw_band, draw_curve, frame
from posterity.inference.plots._style import legend, line, series


def plot_pit_ecdf(
    pit: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    prob: float = 0.95,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str = "ECDF(u) - u",
    colors: Sequence[Any] | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """ECDF of ``pit`` minus the diagonal, with the band that contains all of it with probability ``prob``.

    Several results, each with as many values, share one band, each by itself. The band (see `ecdf_band`) is for
    independent values; values of fitted data, or of LOO, are not independent: test them by `uniformity_test` with
    "pot_c". Parts of a curve outside the band are marked.

    Args:
        pit: a result of `pit` or `loo_pit`, or several by name.
        prob: probability of the band.
        ax: axes, by default those of a new figure.
        xlabel: label of x.
        ylabel: label of y.
        colors: one colour for each curve.
        plot_kwargs: settings of the curves.

    Returns:
        The axes.

    Raises:
        ValueError: as `pit_ecdf`, and if results have different sizes.
    """
    given = by_name("result of pit()", pit)
    curves = {name: pit_ecdf(values, prob=prob) for name, values in given.items()}
    sizes = [curve.attrs["n"] for curve in curves.values()]
    if len(set(sizes)) > 1:
        raise ValueError(f"expected as many PIT values in each result, for one band, got {sizes}")
    colours = series(len(curves), colors)
    ax = axes(ax)
    band = next(iter(curves.values()))
    dependent = any(values.attrs.get("dependent") for values in given.values())
    reach = draw_band(ax, band, f"{prob:.0%} " + ("band of independent values" if dependent else "simultaneous band"))
    for colour, (name, curve) in zip(colours, curves.items(), strict=True):
        label = name or f"{sizes[0]:,} observations"
        settings = options(Line2D, plot_kwargs, color=colour, linewidth=line(1.2), label=label)
        reach = max(reach, draw_curve(ax, curve, settings, bool(name)))
    density = all(values.attrs.get("kind") == "hdi" for values in given.values())
    frame(ax, reach, xlabel or ("u = 1 - level of the HD region of y" if density else "PIT  u = F(y|x)"), ylabel)
    legend(ax, loc="upper right")
    return ax


def largest_distance(values: np.ndarray) -> float:
    """Largest distance between the ECDF of values in [0, 1] and the diagonal: Kolmogorov's statistic."""
    ordered, steps = np.sort(values), np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
