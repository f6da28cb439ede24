"""The histogram of pulls, with the standard normal."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from scipy.stats import norm

from posterity.inference.diagnostics.calibration.residuals import pull_array
from posterity.inference.diagnostics.calibration.widths import pull_summary
from posterity.inference.plots._axes import axes, options
from posterity.inference.plots._style import ink, legend, line, series
from posterity.validation import check_integer, check_number


def plot_pull(
    pulls: xr.Dataset,
    *,
    limit: float = 5.0,
    bins: int = 40,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str = "density",
    event: object = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Histogram of ``pull`` with the standard normal, and the normal of the same mean and width.

    The legend gives mean and width with their errors (see `pull_summary`), and the number of pulls beyond ± ``limit``,
    where the histogram ends.

    Args:
        pulls: a result of `pulls`.
        limit: end of the histogram.
        bins: number of bins.
        ax: axes, by default those of a new figure.
        xlabel: label of x.
        ylabel: label of y.
        event: number or name (N,) of the event of each pull, if pulls of an event are dependent, as for `pull_summary`.
        plot_kwargs: settings of the histogram.

    Returns:
        The axes.

    Raises:
        ValueError: if ``pulls`` is not a result of `pulls`, ``limit`` is not positive, or there are no bins; and as
            `pull_summary`.
    """
    limit = check_number("limit", limit, "(0, inf)")
    check_integer("bins", bins, 1)
    values, summary = pull_array(pulls), summary_without_core(pulls, event=event)
    mean, width = float(summary["mean"]), float(summary["width"])
    edges = np.linspace(-limit, limit, bins + 1)
    count = np.histogram(values, edges)[0]
    beyond = int((np.abs(values) > limit).sum())
    label = f"{values.size:,} pulls" + (f", {beyond:,} beyond ±{limit:g}" if beyond else "")
    fit = f"mean {mean:.3f} ± {float(summary['mean_se']):.3f}\nwidth {width:.3f} ± {float(summary['width_se']):.3f}"
    ax = axes(ax)
    density = count / (values.size * np.diff(edges))
    first, second = series(2)
    settings = options(Patch, plot_kwargs, color=first, alpha=0.35, fill=True, label=label)
    ax.stairs(density, edges, **settings)
    ax.stairs(density, edges, color=settings["color"], linewidth=line(0.7))
    fine = np.linspace(-limit, limit, 400)
    ax.plot(fine, norm.pdf(fine), color=ink(), label="N(0, 1)")
    ax.plot(fine, norm.pdf(fine, mean, width), color=second, linestyle="--", label=fit)
    kind = pulls.attrs.get("kind")
    ax.set(xlabel=xlabel or (f"pull ({kind})" if kind else "pull"), ylabel=ylabel, xlim=(-limit, limit))
    # Room above the peak for the legend.
    ax.set_ylim(0, 1.45 * max(float(density.max()), float(norm.pdf(0)), float(norm.pdf(0, 0, width))))
    legend(ax, ncols=2, loc="upper center")
    return ax


def summary_without_core(pulls: xr.Dataset, **settings: Any) -> xr.Dataset:
    """`pull_summary`, without its warning about the core width, which is not drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "core_width is nan")
        return pull_summary(pulls, **settings)
