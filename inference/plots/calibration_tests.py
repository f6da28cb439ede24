"""All tests of calibration on one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.plots._axes import axes, options, titled
from posterity.inference.plots._style import ALARM, ink, legend, line, marker, tint
from posterity.validation import check_number


def plot_calibration_tests(
    panel: xr.Dataset,
    *,
    limit: float = 10.0,
    ax: Axes | None = None,
    xlabel: str | None = None,
    title: str | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """-log10 of the p-value of each test, and a line at the level: tests beyond the line reject.

    ``panel`` is a result of `calibration_tests`: ``p_value`` over "test" with the coordinate ``sees``, written at each
    line. Tests that reject are coloured; hollow if all tests together do not reject (the ``fault`` is "none"), as one
    test of twenty does for a right model. The test that names the fault is bold, and the title is the verdict.

    Args:
        panel: a result of `calibration_tests`.
        limit: p-values below 10^-``limit`` are drawn at the edge; a test without a p-value (nan) is a cross at 0.
        ax: axes, by default those of a new figure.
        xlabel: label of x, by default with the level.
        title: title, by default the verdict.
        plot_kwargs: settings of the dots.

    Returns:
        The axes.

    Raises:
        ValueError: if ``panel`` is not a result of `calibration_tests`, p-values are not in [0, 1], or ``limit`` is
            below 2.

    >>> from matplotlib.figure import Figure
    >>> panel = xr.Dataset({"p_value": ("test", [0.4, 1e-5])}, coords={"test": ["ks", "component_weight"],
    ...                    "sees": ("test", ["a shift", "components too often or too rarely"])})
    >>> ax = plot_calibration_tests(panel, ax=Figure().subplots())
    >>> [round(float(line.get_xdata()[0]), 2) for line in ax.lines[1::2]]
    [0.4, 5.0]
    """
    check_result("calibration_tests", panel, "p_value", "test", "sees")
    p_value = panel["p_value"].values.astype(float)
    if p_value.ndim != 1 or not p_value.size or bool(((p_value < 0) | (p_value > 1)).any()):
        raise ValueError(f"expected p-values in [0, 1] over 'test', got {p_value.ravel()[:5].tolist()}")
    limit = check_number("limit", limit, "[2, inf)")
    level, fault = float(panel.attrs.get("level", 0.05)), str(panel.attrs.get("fault", ""))
    with np.errstate(divide="ignore"):
        strength = np.minimum(-np.log10(p_value), limit)
    ax = axes(ax)
    quiet, marginal = tint(ax, ink(), 0.65), []
    for place, (name, sees) in enumerate(zip(panel["test"].values, panel["sees"].values, strict=True)):
        alone = p_value[place] < level
        seen = alone and fault != "none"
        colour = ALARM if seen or alone else ink()
        weight = "bold" if seen and name == fault else "normal"
        value = 0.0 if np.isnan(strength[place]) else strength[place]
        shape = "x" if np.isnan(strength[place]) else (">" if strength[place] >= limit else "o")
        hollow = {"markerfacecolor": ax.get_facecolor()} if alone and not seen else {}
        ax.plot([0, value], [place, place], color=colour, linewidth=line(1.0), zorder=2)
        dot = options(Line2D, plot_kwargs, color=colour, marker=shape, markersize=marker(1.3), zorder=3, **hollow)
        drawn = ax.plot([value], [place], clip_on=False, **dot)
        marginal += drawn if hollow else []
        ax.annotate(
            str(sees), (0, place), xytext=(4, 4), textcoords="offset points", va="bottom", fontsize="x-small",
            color=colour if seen else quiet, fontweight=weight,
            bbox={"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.5}, zorder=1.5,
        )  # fmt: skip
    ax.axvline(-np.log10(level), color=ink(), linestyle="--", linewidth=line(0.7), zorder=1)
    largest = float(np.nanmax(strength)) if np.isfinite(strength).any() else 0.0
    ax.set(xlim=(0, min(limit, max(3.0, 1.15 * largest))), ylim=(len(p_value) - 0.4, -0.9))
    ax.set_xlabel(f"-log10 p (dashed: p = {level:.0%})" if xlabel is None else xlabel)
    ax.set_yticks(range(len(p_value)), [str(name) for name in panel["test"].values])
    for label, name in zip(ax.get_yticklabels(), panel["test"].values, strict=True):
        if name == fault:
            label.set(color=ALARM, fontweight="bold")
    ax.tick_params(axis="y", length=0)
    if marginal:
        legend(ax, marginal[:1], ["this test alone"], loc="lower right", frame=True)
    titled(ax, str(panel.attrs.get("verdict", "")) if title is None else title)
    return ax
