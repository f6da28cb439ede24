"""The conditional density as an image, in which several answers are visible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.inference.plots._axes import axes, named, places, points, vector
from posterity.inference.plots._style import VERMILION, legend, setting
from posterity.validation import check_flag, check_integer, check_pair

if TYPE_CHECKING:
    from posterity.data import Observations
    from posterity.inference.diagnostics.sources.mixture import MixtureSource
    from posterity.inference.plots._axes import Values
    from posterity.models.mixtures import Mixture


def plot_conditional_density(
    predictive: Mixture,
    x: Values,
    *,
    y: Values | Observations | None = None,
    x_data: Values | None = None,
    limits: tuple[float, float] | None = None,
    resolution: int = 300,
    colorbar: bool = True,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """p(y|x) over ``x`` (N,) and a grid of y, each column divided by its maximum, with the data on top.

    With this scaling, narrow and wide densities are equally dark, and shapes can be compared: the number of peaks,
    their places, and their heights relative to the highest at the same x. The colour follows the square root, so that a
    peak of a tenth of the height is still visible.

    Args:
        predictive: a `Mixture` of batch shape (N,).
        x: the input (N,).
        y: observations, at ``x_data`` or at ``x``; or `Observations` of one input, with positions and names.
        x_data: inputs of the observations.
        limits: range of y, by default from the 0.1 % to the 99.9 % quantiles, and the data.
        resolution: number of points of the grid of y.
        colorbar: whether a colour bar is drawn.
        ax: axes, by default those of a new figure.
        xlabel: label of x, by default the name of the column.
        ylabel: label of y, by default the name of the column.
        plot_kwargs: settings of ``pcolormesh``.

    Returns:
        The axes.

    Raises:
        ValueError: if ``predictive`` is not a `Mixture` with a density, limits do not ascend, or shapes do not match.
    """
    source = require_mixture(read(predictive, needs_y=False), "a density")
    if source.is_discrete:
        raise ValueError("expected a predictive with a density, got one of counts, which has probabilities")
    at = vector("x", x, len(source.observed))
    at_data = places(at, y, x_data)
    check_flag("colorbar", colorbar)
    check_integer("resolution", resolution, 2)
    low, high = _limits(source, at_data[1]) if limits is None else check_pair("limits", limits)
    grid = np.linspace(low, high, resolution)
    order = np.argsort(at)
    log_density = source.log_density(grid)[:, order]
    highest = log_density.max(0)
    image = np.exp(log_density - np.where(np.isfinite(highest), highest, 0.0))
    ax = axes(ax)
    settings = {"cmap": setting("image.cmap", "Blues"), "norm": PowerNorm(0.5, 0, 1), "rasterized": True}
    mesh = ax.pcolormesh(at[order], grid, image, shading="nearest", **{**settings, **(plot_kwargs or {})})
    if colorbar:
        bar = ax.figure.colorbar(mesh, ax=ax, ticks=[0, 0.1, 0.25, 0.5, 1])
        bar.set_label("p(y|x) / maximum over y")
    points(ax, *at_data, VERMILION)
    if y is not None:
        legend(ax, frame=True)
    xlabel, ylabel = named(x, y, xlabel, ylabel)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(low, high))
    return ax


def _limits(source: MixtureSource, y: np.ndarray) -> tuple[float, float]:
    """The 0.1 % to the 99.9 % quantiles and the data, with a margin."""
    values = np.r_[source.quantiles(np.array([0.001, 0.999])).ravel(), y]
    values = values[np.isfinite(values)]
    margin = 0.02 * np.ptp(values)
    return float(values.min() - margin), float(values.max() + margin)
