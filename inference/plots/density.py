"""The conditional density as an image: the plot that shows several answers."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from posterity.inference.diagnostics._rows import by_rows
from posterity.inference.diagnostics._source import check_mixture, require_scalar_event
from posterity.inference.plots._axes import VERMILION, Values, axes, points, vector
from posterity.models.mixtures import Mixture


def plot_density(
    predictive: Mixture,
    x: Values,
    *,
    y: Values | None = None,
    x_data: Values | None = None,
    limits: tuple[float, float] | None = None,
    resolution: int = 300,
    colorbar: bool = True,
    ax: Axes | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
) -> Axes:
    """p(y|x) over ``x`` (N,) and a grid of y, each column divided by its maximum, with the data on top.

    Scaled this way a narrow and a wide density are equally dark, and the eye compares shapes: how many peaks,
    where, how likely against the highest at the same x. The colour goes with the square root, so that a peak of a
    tenth of the height is still seen. ``limits`` is the range of y, by default from the 0.1 % to the 99.9 %
    quantiles (and the data). ``y`` are observations at ``x_data``, or at ``x``.
    Returns the axes. Raises ``ValueError`` for limits that do not ascend and inputs of other shapes.
    """
    require_scalar_event(check_mixture(predictive))
    at = vector("x", x, predictive.batch_shape[0])
    if resolution < 2:
        raise ValueError(f"expected a resolution of at least 2, got {resolution}")
    low, high = _limits(predictive, y) if limits is None else limits
    if not low < high:
        raise ValueError(f"expected limits (low, high) with low < high, got {(low, high)}")
    grid = np.linspace(low, high, resolution)
    column = torch.as_tensor(grid)[:, None]
    order = np.argsort(at)
    log_density = by_rows(predictive, lambda part, rows: part.log_prob(column), per_row=resolution)[:, order]
    highest = log_density.max(0)
    image = np.exp(log_density - np.where(np.isfinite(highest), highest, 0.0))
    ax = axes(ax)
    mesh = ax.pcolormesh(
        at[order], grid, image, shading="nearest", cmap="Blues", norm=PowerNorm(0.5, 0, 1), rasterized=True
    )
    if colorbar:
        bar = ax.figure.colorbar(mesh, ax=ax, ticks=[0, 0.1, 0.25, 0.5, 1])
        bar.set_label("p(y|x) / maximum over y")
    points(ax, at, y, x_data, VERMILION)
    if y is not None:
        ax.legend(fontsize="small", loc="best")
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(low, high))
    return ax


def _limits(predictive: Mixture, y: Values | None) -> tuple[float, float]:
    ends = torch.tensor([[0.001], [0.999]]).double()
    found = [by_rows(predictive, lambda part, rows: part.icdf(ends), per_row=2).ravel()]
    if y is not None:
        found.append(vector("y", y))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    margin = 0.02 * np.ptp(values)
    return float(values.min() - margin), float(values.max() + margin)
