"""Pulls over a covariate: errors that are too wide at some x and too narrow at others can have width 1 in total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import chi2, norm

from posterity.inference.diagnostics.calibration.residuals import pull_array
from posterity.inference.plots._axes import axes, options
from posterity.inference.plots._style import ALARM, ink, legend, line, marker, series, tint
from posterity.inference.plots.pull import summary_without_core
from posterity.validation import check_number, to_array


def plot_pull_vs(
    pulls: xr.Dataset,
    by: Any,
    *,
    bins: int = 8,
    prob: float = 0.95,
    limit: float = 3.5,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str = "pull",
    event: object = None,
    colors: Sequence[Any] | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Mean and width of the pulls in groups by a covariate, with their errors, over the pulls themselves.

    The bands around 0 and 1 contain all means and widths together with probability ``prob`` if the pulls are
    independent draws of N(0, 1): the mean of n such pulls has the error 1/sqrt(n), (n - 1) times their variance is chi²
    with n - 1 degrees of freedom, and all of these are independent. Values outside are circled. Moment pulls of a right
    model need not be normal, and have no bands.

    Args:
        pulls: a result of `pulls`.
        by: a covariate (N,), or a name in the dataset.
        bins: as for `pull_summary`.
        prob: probability of the bands.
        limit: pulls beyond ± ``limit`` are counted, not drawn.
        ax: axes, by default those of a new figure.
        xlabel: label of x.
        ylabel: label of y.
        event: number or name (N,) of the event of each pull, for the error bars, as for `pull_summary`; the bands are
            those of independent pulls.
        colors: colours of mean and width.
        plot_kwargs: settings of their lines.

    Returns:
        The axes.

    Raises:
        ValueError: if ``prob`` is not in (0, 1), or ``limit`` is not above 1, and as `pull_summary`.

    >>> from matplotlib.figure import Figure
    >>> rng, x = np.random.default_rng(0), np.linspace(0, 1, 400)
    >>> wide_on_the_right = xr.Dataset({"pull": ("obs", rng.normal(size=400) * np.where(x > 0.75, 1.6, 1))})
    >>> ax = plot_pull_vs(wide_on_the_right, x, bins=4, ax=Figure().subplots())
    >>> ax.get_legend_handles_labels()[1][1]
    'width outside: 1 of 4'
    """
    check_number("prob", prob, "(0, 1)")
    limit = check_number("limit", limit, "(1, inf)")  # widths should be 1
    if by is None:
        raise ValueError("expected by to be an array (N,) or a name in the dataset, got None")
    values, summary = pull_array(pulls), summary_without_core(pulls, by=by, bins=bins, event=event)
    at, centre, low, high = _places(pulls, by, summary)
    mean_colour, width_colour = series(2, colors)
    ax = axes(ax)
    beyond = int((np.abs(values) > limit).sum())
    label = f"{values.size:,} pulls" + (f", {beyond:,} beyond ±{limit:g}" if beyond else "")
    size = marker(float(np.clip(60 / np.sqrt(values.size), 1.2, 3.0)) / 6)
    settings: dict[str, Any] = {"color": tint(ax, ink(), 0.45), "linestyle": "", "marker": "o", "markersize": size}
    inside = np.abs(values) <= limit
    ax.plot(at[inside], values[inside], markeredgewidth=0, rasterized=True, zorder=1, label=label, **settings)
    normal = pulls.attrs.get("kind") != "moment"
    bands = _bands(summary["n"].values, prob)
    for name, colour, target in (("mean", mean_colour, 0), ("width", width_colour, 1)):
        of_groups, error = summary[name].values, summary[f"{name}_se"].values
        ax.axhline(target, color=colour, linewidth=line(0.5), zorder=2)
        if normal:
            for index, (bottom, top) in enumerate(bands[name]):
                ax.fill_between([low[index], high[index]], bottom, top, color=colour, alpha=0.2, linewidth=0, zorder=2)
        bars = options(
            Line2D, plot_kwargs, color=colour, marker="o", markersize=marker(0.8), linestyle="", zorder=4,
            label=f"{name}, should be {target}",
        )  # fmt: skip
        ax.errorbar(centre, of_groups, error, **bars)
        out = ((of_groups < bands[name][:, 0]) | (of_groups > bands[name][:, 1])) & normal
        if out.any():
            ax.plot(
                centre[out], of_groups[out], "o", markersize=marker(2.0), markerfacecolor="none", markeredgecolor=ALARM,
                markeredgewidth=line(0.9), zorder=5, label=f"{name} outside: {int(out.sum())} of {len(out)}",
            )  # fmt: skip
    _labels(ax, summary, centre, xlabel or (by if isinstance(by, str) else "x"), ylabel)
    reach = max(limit, 1.1 * float(np.abs([summary["mean"].values, summary["width"].values]).max()))
    ax.set_ylim(-reach, 1.6 * reach)  # room above the pulls for the legend
    ax.set_yticks([tick for tick in ax.get_yticks() if abs(tick) <= reach])
    legend(ax, loc="upper center", ncols=2)
    return ax


def _places(pulls: xr.Dataset, by: Any, summary: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position of each pull (N,), and centre, left and right end of each group."""
    if isinstance(by, str):
        by = pulls[by].broadcast_like(pulls["pull"]).transpose(*pulls["pull"].dims)
    values, groups = to_array(by, "by").reshape(-1), summary["group"].values
    if "low" in summary.coords:
        low, high = summary["low"].values, summary["high"].values
        between = 0.5 * (high[:-1] + low[1:])  # bins meet halfway between their values
        return values, groups, np.r_[low[:1], between], np.r_[between, high[-1:]]
    # Groups of single values are drawn side by side.
    centre = np.arange(len(groups), dtype=float)
    jitter = 0.6 * (np.arange(len(values)) * 0.5 * (np.sqrt(5) - 1) % 1) - 0.3  # evenly spread
    return np.searchsorted(groups, values) + jitter, centre, centre - 0.35, centre + 0.35


def _bands(n: np.ndarray, prob: float) -> dict[str, np.ndarray]:
    """Ends (group, 2) for the means and for the widths of n normal values, of joint probability ``prob``."""
    each = prob ** (1 / (2 * len(n)))
    ends = np.array([0.5 * (1 - each), 0.5 * (1 + each)])
    freedom = (n - 1)[:, None]
    return {"mean": norm.ppf(ends) / np.sqrt(n)[:, None], "width": np.sqrt(chi2.ppf(ends, freedom) / freedom)}


def _labels(ax: Axes, summary: xr.Dataset, centre: np.ndarray, xlabel: str, ylabel: str) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0.02)
    if "low" not in summary.coords:
        ax.set_xticks(centre, [str(name) for name in summary["group"].values])
