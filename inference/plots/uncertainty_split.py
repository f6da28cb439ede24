"""The parts of the predictive variance over one input, stacked: variances add, standard deviations do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.diagnostics.decomposition.variance import split_terms
from posterity.inference.plots._axes import axes, named, vector
from posterity.inference.plots._style import AMBIGUITY, EPISTEMIC, NOISE, ink, legend, line
from posterity.validation import check_flag

if TYPE_CHECKING:
    from posterity.inference.plots._axes import Values

COLOURS = {
    "noise": NOISE,
    "ambiguity": AMBIGUITY,
    "epistemic": EPISTEMIC,
    "within_component": NOISE,
    "between_component": AMBIGUITY,
}


def plot_uncertainty_split(
    split: xr.Dataset,
    x: Values,
    *,
    shares: bool = False,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    colors: Mapping[str, Any] | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Noise, ambiguity and epistemic variance stacked over ``x`` (N,), up to the total, in squared units of y.

    Args:
        split: a result of `uncertainty_split` for one target.
        x: the input (N,).
        shares: whether each column is divided by its total, which shows the parts if totals differ by orders of
            magnitude.
        ax: axes, by default those of a new figure.
        xlabel: label of x, by default the name of the column.
        ylabel: label of y.
        colors: colours by the name of a part, in place of those that all plots have in common.
        plot_kwargs: settings of ``stackplot``.

    Returns:
        The axes.

    Raises:
        ValueError: if ``split`` is not a split of one target, shapes do not match, colours have other names, or shares
            are of a total that is not above zero.
    """
    names = split_terms(split)
    check_flag("shares", shares)
    if split["total"].ndim != 1:
        raise ValueError(f"expected the split of one target, got dimensions {split['total'].dims}")
    at = vector("x", x, split["total"].size)
    total = vector("total", split["total"].values)
    if shares and not total.min() > 0:
        raise ValueError(f"expected totals above 0 for shares, got {total.min()}")
    if colors is not None and not (isinstance(colors, Mapping) and set(colors) <= set(names)):
        got = list(colors) if isinstance(colors, Mapping) else type(colors).__name__
        raise ValueError(f"expected colors for any of {list(names)}, got {got}")
    order = np.argsort(at)
    rows = [(vector(name, split[name].values) / (total if shares else 1.0))[order] for name in names]
    ax = axes(ax)
    palette = {**COLOURS, **(colors or {})}
    settings = {"colors": [palette[name] for name in names], "alpha": 0.75, "linewidth": 0, **(plot_kwargs or {})}
    ax.stackplot(at[order], *rows, labels=[name.replace("_", " ") for name in names], **settings)
    if not shares:
        ax.plot(at[order], total[order], color=ink(), linewidth=line(0.8), label="total")
    xlabel, _ = named(x, None, xlabel, None)
    ax.set(xlabel=xlabel, ylabel=ylabel or ("share of the variance" if shares else "variance of y (squared units)"))
    ax.margins(x=0)
    # On shared axes, later panels may still widen the limits.
    ax.set_ylim(0, 1 if shares else None, auto=None if shares else True)
    # From top to bottom, in the order of the areas.
    handles, labels = ax.get_legend_handles_labels()
    legend(ax, handles[::-1], labels[::-1], loc="lower left" if shares else "best", frame=True)
    return ax
