"""The terms of the predictive variance over one input, stacked: variances add, standard deviations do not."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.diagnostics.variance import split_terms
from posterity.inference.plots._axes import BLUE, GREEN, INK, ORANGE, Values, axes, vector

COLOURS = {
    "noise": BLUE,
    "ambiguity": GREEN,
    "epistemic": ORANGE,
    "within_component": BLUE,
    "between_component": GREEN,
}


def plot_split(
    split: xr.Dataset,
    x: Values,
    *,
    shares: bool = False,
    ax: Axes | None = None,
    xlabel: str = "x",
    ylabel: str | None = None,
) -> Axes:
    """Noise, ambiguity and epistemic variance stacked over ``x`` (N,); their top is the total, in squared units
    of y.

    Takes what `uncertainty_split` returns for one target. With ``shares`` each column is divided by its total:
    what the uncertainty is made of, where its size spans orders of magnitude.
    Returns the axes. Raises ``ValueError`` without a split of one target, or for ``x`` of another shape.
    """
    names = split_terms(split)
    if split["total"].ndim != 1:
        raise ValueError(f"expected the split of one target, got dimensions {split['total'].dims}")
    at = vector("x", x, split["total"].size)
    order = np.argsort(at)
    scale = split["total"].values if shares else np.ones_like(at)
    rows = [(split[name].values / scale)[order] for name in names]
    ax = axes(ax)
    ax.stackplot(
        at[order],
        *rows,
        labels=[name.replace("_", " ") for name in names],
        colors=[COLOURS[name] for name in names],
        alpha=0.75,
        linewidth=0,
    )
    if not shares:
        ax.plot(at[order], split["total"].values[order], color=INK, linewidth=1.2, label="total")
    ax.set(xlabel=xlabel, ylabel=ylabel or ("share of the variance" if shares else "variance of y"))
    ax.margins(x=0)
    ax.set_ylim(0, 1 if shares else None)
    # From top to bottom, as the areas lie.
    handles, labels = ax.get_legend_handles_labels()
    if shares:
        ax.legend(handles[::-1], labels[::-1], fontsize="small", loc="lower left", framealpha=0.85)
    else:
        ax.legend(handles[::-1], labels[::-1], fontsize="small", frameon=False)
    return ax
