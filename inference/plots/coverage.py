"""Observed coverage against the nominal level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.plots._axes import axes, by_name, options
from posterity.inference.plots._style import ink, legend, line, marker, ordered, series
from posterity.validation import check_flag

KINDS = {"central": "central regions", "hdi": "highest-density regions", "tarp": "balls around random points"}


def plot_coverage(
    coverage: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    difference: bool = False,
    ax: Axes | None = None,
    xlabel: str = "nominal level",
    ylabel: str | None = None,
    colors: Sequence[Any] | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Observed share against level with its limits, for one result of `coverage` or `tarp`, or several by name.

    A result over "group" has a line for each group; bins of a covariate have ordered colours. A calibrated model
    follows the diagonal; below it the regions are too small (for balls of `tarp`, see there).

    Args:
        coverage: a result of `coverage` or `tarp`, or several by name.
        difference: whether the level is subtracted, which shows small deviations better.
        ax: axes, by default those of a new figure.
        xlabel: label of x.
        ylabel: label of y.
        colors: one colour for each line.
        plot_kwargs: settings of the lines.

    Returns:
        The axes.

    Raises:
        ValueError: if ``coverage`` is not a result of `coverage` or `tarp`.
    """
    check_flag("difference", difference)
    lines: list[tuple[str, xr.Dataset]] = []
    for name, result in by_name("result of coverage()", coverage).items():
        lines += _lines(name, check_result("coverage", result, "coverage", "lower", "upper", "level"))
    in_order = isinstance(coverage, xr.Dataset) and "low" in coverage.coords
    colours = ordered(len(lines), colors) if in_order else series(len(lines), colors)
    ax = axes(ax)
    ax.plot([0, 1], [0, 0 if difference else 1], color=ink(), linewidth=line(0.7), linestyle="--", label="calibrated")
    for (label, result), colour in zip(lines, colours, strict=True):
        level = result["level"].values
        base = level if difference else 0.0
        settings = options(Line2D, plot_kwargs, color=colour, marker="o", markersize=marker(0.6), label=label)
        lower, upper = result["lower"].values - base, result["upper"].values - base
        alpha = 0.18 if len(lines) < 4 else 0.1
        ax.fill_between(level, lower, upper, color=settings["color"], alpha=alpha, linewidth=0)
        ax.plot(level, result["coverage"].values - base, **settings)
    ax.set(xlim=(0, 1), xlabel=xlabel, ylabel=ylabel or ("observed - nominal" if difference else "observed share"))
    if not difference:
        ax.set(ylim=(0, 1), aspect="equal")
    if difference:  # room above the lines for the legend
        reach = max(
            float(abs(result[end] - result["level"]).max()) for _, result in lines for end in ("lower", "upper")
        )
        ax.set_ylim(-1.1 * reach, (1.3 + 0.2 * math.ceil((len(lines) + 1) / 2)) * reach)
    legend(ax, loc="upper center" if difference else "upper left", ncols=2 if difference else 1)
    return ax


def _lines(name: str, result: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """The lines of one result with their labels: one, or one for each group."""
    dims = set(result["coverage"].dims)
    if dims == {"level"}:
        return [(name or KINDS.get(result.attrs.get("kind", ""), "observed"), result)]
    if dims != {"level", "group"}:
        raise ValueError(f"expected coverage over 'level', or 'group' and 'level', got {result['coverage'].dims}")
    lines = []
    for index in range(result.sizes["group"]):
        part = result.isel(group=index)
        label = f"{part['low'].item():.3g} to {part['high'].item():.3g}" if "low" in part.coords else ""
        label = label or str(part["group"].item() if "group" in part.coords else index)
        lines.append((f"{name}, {label}" if name else label, part))
    return lines
