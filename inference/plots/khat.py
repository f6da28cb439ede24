"""Pareto's k-hat of each observation: where importance sampling can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.plots._axes import axes, options
from posterity.inference.plots._style import ALARM, ink, legend, line, marker, series
from posterity.validation import check_number

NAMED = 10  # so many of the worst have their number beside them


def plot_khat(
    loo: xr.Dataset,
    *,
    ax: Axes | None = None,
    xlabel: str = "observation",
    ylabel: str = "Pareto k",
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """``pareto_k`` of every observation, in the order of memory, with the lines above which it is bad.

    Takes what `loo` returns. Above its threshold (0.7, less for few draws) the value is not to be trusted; above 1 the
    weights have no mean. Bad ones are in colour, the ten worst with their number; hollow where ``refitted`` says that
    they were fitted again. An infinite k, of too few draws or equal weights, stands at the upper edge. ``plot_kwargs``
    are for the points.
    Returns the axes. Raises ``ValueError`` for another Dataset, one without its threshold, or a k that is nan.

    >>> from matplotlib.figure import Figure
    >>> found = xr.Dataset({"pareto_k": ("obs", [0.1, 0.2, 0.9])}, attrs={"threshold": 0.7})
    >>> plot_khat(found, ax=Figure().subplots()).get_legend_handles_labels()[1]
    ['2 of 3 good', '1 bad: k > 0.7']
    """
    check_result("loo", loo, "pareto_k")
    threshold = loo.attrs.get("threshold", loo.attrs.get("good_k"))
    if threshold is None:
        raise ValueError(f"expected a result of loo() with the attribute 'threshold', got {list(loo.attrs)}")
    threshold = check_number("threshold of loo", threshold)
    k = loo["pareto_k"].values.ravel().astype(float)
    if not k.size or np.isnan(k).any():
        raise ValueError(f"expected at least one pareto_k, none nan, got {int(np.isnan(k).sum())} of {k.size} nan")
    refitted = loo["refitted"].values.ravel().astype(bool) if "refitted" in loo else np.zeros(k.size, bool)
    finite, number, bad = np.isfinite(k), np.arange(k.size), k > threshold
    top = 1.15 * max(1.0, float(k[finite].max()) if finite.any() else 1.0)
    shown = np.clip(k, None, top)
    ax = axes(ax)
    size = marker(float(np.clip(60 / np.sqrt(k.size), 2.0, 5.0)) / 6)
    dots = options(
        Line2D, plot_kwargs, color=series(1)[0], marker="o", markersize=size, linestyle="",
        label=f"{int((~bad).sum())} of {k.size} good",
    )  # fmt: skip
    ax.plot(number[~bad], shown[~bad], **dots)
    groups = (
        (bad & ~refitted & finite, f"bad: k > {threshold:.2g}", "o", ALARM),
        (bad & ~refitted & ~finite, "infinite", "^", ALARM),
        (bad & refitted, "bad, fitted again", "o", "none"),
    )
    for some, label, shape, fill in groups:
        if some.any():
            bold: dict[str, Any] = {"marker": shape, "color": ALARM, "markerfacecolor": fill, "markersize": 1.4 * size}
            ax.plot(number[some], shown[some], linestyle="", label=f"{int(some.sum())} {label}", **bold)
    ax.axhline(0.0, color=ink(), linewidth=line(0.4))
    ax.axhline(threshold, color=ALARM, linewidth=line(0.8), linestyle="--")
    ax.axhline(1.0, color=ALARM, linewidth=line(0.8), linestyle=":")
    worst = [place for place in np.argsort(-k, kind="stable")[:NAMED] if bad[place]]
    for place in worst:
        ax.annotate(
            str(place), (place, shown[place]), xytext=(0, 4), textcoords="offset points", ha="center", fontsize="small"
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02 * k.size - 0.5, 1.02 * k.size - 0.5))
    ax.set_ylim(min(-0.1, 1.1 * float(shown.min())), 1.3 * top)  # room above for the legend
    legend(ax, loc="upper center", ncols=3)
    return ax
