"""The predictive over one input: its median and central regions, and the part of them that is lack of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.sources.levels import check_levels
from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.inference.plots._axes import axes, named, options, places, points, vector
from posterity.inference.plots._style import EPISTEMIC, legend, line, series, tint
from posterity.validation import check_flag

if TYPE_CHECKING:
    from posterity.data import Observations
    from posterity.inference.plots._axes import Values
    from posterity.models.mixtures import Mixture


def plot_bands(
    predictive: Mixture | Values,
    x: Values,
    *,
    y: Values | Observations | None = None,
    x_data: Values | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    split: bool = True,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Median and central ``levels`` of the predictive over ``x`` (N,), from its quantiles, with the data on top.

    With ``split``, a `PredictiveMixture` of several draws also shows, between dashed lines, the widest level of the
    *mean*: E[y|x] of one draw after another. This part would shrink with more data, the rest would not. If the
    predictive has two peaks, the central band spans the gap between them: use `plot_conditional_density`.

    Args:
        predictive: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data.
        x: the input (N,).
        y: observations, at ``x_data`` or at ``x``; or `Observations` of one input, with positions and names.
        x_data: inputs of the observations.
        levels: probabilities of the central regions.
        split: whether the spread of the mean is drawn.
        ax: axes, by default those of a new figure.
        xlabel: label of x, by default the name of the column.
        ylabel: label of y, by default the name of the column.
        plot_kwargs: settings of the line of the median; the bands are tints of its colour.

    Returns:
        The axes.

    Raises:
        ValueError: if ``levels`` are not in (0, 1), or shapes do not match.
    """
    wanted = sorted(check_levels(levels).tolist())
    check_flag("split", split)
    ends = np.array([0.5 * (1 + sign * level) for level in wanted for sign in (-1, 1)] + [0.5])
    data = read(predictive, needs_y=False)
    quantiles = data.quantiles(ends)
    at = vector("x", x, quantiles.shape[1])
    at_data = places(at, y, x_data)
    order = np.argsort(at)
    quantiles = quantiles[:, order]
    ax = axes(ax)
    median = options(Line2D, plot_kwargs, color=series(1)[0], linewidth=line(1.3), label="median", zorder=3)
    for index in reversed(range(len(wanted))):
        low, high = quantiles[2 * index], quantiles[2 * index + 1]
        shade = tint(ax, median["color"], 0.15 + 0.35 * (len(wanted) - 1 - index) / max(1, len(wanted) - 1))
        ax.fill_between(at[order], low, high, color=shade, linewidth=0, label=f"{wanted[index]:.0%} of y", zorder=1)
    ax.plot(at[order], quantiles[-1], **median)
    if split and data.has_density and data.num_draws > 1:
        low, high = require_mixture(data, "the spread of the mean").mean_quantiles(ends[-3:-1])[:, order]
        for end, label in ((low, f"{wanted[-1]:.0%} of the mean (epistemic)"), (high, "")):
            ax.plot(at[order], end, color=EPISTEMIC, linestyle="--", linewidth=line(1.1), zorder=3, label=label)
    points(ax, *at_data)
    xlabel, ylabel = named(x, y, xlabel, ylabel)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0)
    legend(ax, frame=True)
    return ax
