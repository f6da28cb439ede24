"""Posterior predictive checks: statistics of the observations among those of replicated data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.plots._axes import chosen, one_or_array, options, small_multiples
from posterity.inference.plots._style import ALARM, ink, legend, line, series
from posterity.validation import check_finite, check_integer

LEVEL = 0.05
"""p-values below are coloured."""


def plot_ppc(
    result: xr.Dataset,
    *,
    statistics: Sequence[str] | None = None,
    bins: int = 30,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    ylabel: str = "replications",
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes | np.ndarray:
    """For each statistic T a histogram of T of replicated data, and a line at T of the observations.

    A line in the tails (coloured if p is below 5 %) is a feature of the data that the model does not generate.

    Args:
        result: a result of `posterior_predictive_check`.
        statistics: names of the statistics, by default all.
        bins: number of bins of the histograms.
        ax: one axes for each statistic, by default those of a new figure.
        figsize: size of the new figure, in inches.
        ylabel: label of y.
        plot_kwargs: settings of the histograms.

    Returns:
        The axes of one statistic, or an array of them.

    Raises:
        ValueError: if ``result`` is not a result of `posterior_predictive_check`, statistics do not exist, values
            are not finite, or there are no bins.

    >>> from matplotlib.figure import Figure
    >>> check = xr.Dataset({"replicated": (("statistic", "sample"), np.arange(100.0)[None]),
    ...                     "observed": ("statistic", [99.0]), "p_value": ("statistic", [0.01])},
    ...                    coords={"statistic": ["maximum"]})
    >>> plot_ppc(check, ax=Figure().subplots()).get_xlabel()
    'T = maximum'
    """
    check_result("posterior_predictive_check", result, "replicated", "observed", "p_value")
    check_integer("bins", bins, 1)
    names = chosen(result, "replicated", "statistic", statistics)
    for variable in ("replicated", "observed"):
        check_finite(f"{variable} of the result", result[variable].sel(statistic=names).values)
    panels = small_multiples(len(names), ax, figsize)
    for one, name in zip(panels, names, strict=True):
        part = result.sel(statistic=name)
        replicated, observed = part["replicated"].values.ravel(), float(part["observed"])
        p_value = float(part["p_value"])
        count, edges = np.histogram(replicated, bins)
        settings = options(Patch, plot_kwargs, color=series(1)[0], alpha=0.45, fill=True, label="replicated")
        one.stairs(count, edges, **settings)
        label = f"observed, p = {p_value:.3f}"
        top = 1.08 * count.max()
        one.plot([observed] * 2, [0, top], color=ALARM if p_value < LEVEL else ink(), linewidth=line(1.5), label=label)
        one.set(xlabel=f"T = {name}", ylabel=ylabel, ylim=(0, 1.25 * top))  # room for the legend
        legend(one, loc="upper center", ncols=2)
    return one_or_array(panels)
