"""Observed coverage against the level that was promised."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.plots._axes import INK, SERIES, axes

NAMES = ("coverage", "lower", "upper", "level")


def plot_coverage(
    coverage: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    difference: bool = False,
    ax: Axes | None = None,
    xlabel: str = "nominal level",
    ylabel: str | None = None,
) -> Axes:
    """Observed share against level with its Clopper-Pearson limits, for one result of `coverage` or several by
    name.

    The diagonal is what a calibrated model follows; below it the regions are too small. With ``difference`` the
    level is subtracted, which shows small departures better.
    Returns the axes. Raises ``ValueError`` for anything that is not a result of `coverage`.
    """
    named = coverage if isinstance(coverage, Mapping) and not isinstance(coverage, xr.Dataset) else {"": coverage}
    if not named:
        raise ValueError("expected at least one result of coverage(), got none")
    for result in named.values():
        if not isinstance(result, xr.Dataset) or not set(NAMES) <= set(result.variables):
            got = list(result.variables) if isinstance(result, xr.Dataset) else type(result).__name__
            raise ValueError(f"expected results of coverage(), got {got}")
    ax = axes(ax)
    ax.plot([0, 1], [0, 0 if difference else 1], color=INK, linewidth=1, linestyle="--", label="calibrated")
    for index, (name, result) in enumerate(named.items()):
        level = result["level"].values
        base = level if difference else 0.0
        colour = SERIES[index % len(SERIES)]
        label = name or f"{result.attrs.get('kind', '')} regions".replace("_", " ").strip()
        lower, upper = result["lower"] - base, result["upper"] - base
        ax.fill_between(level, lower, upper, color=colour, alpha=0.18, linewidth=0)
        ax.plot(level, result["coverage"] - base, color=colour, marker="o", markersize=3.5, label=label)
    ax.set(xlim=(0, 1), xlabel=xlabel, ylabel=ylabel or ("observed - nominal" if difference else "observed share"))
    if not difference:
        ax.set(ylim=(0, 1), aspect="equal")
    ax.legend(frameon=False, fontsize="small", loc="upper left" if not difference else "best")
    return ax
