"""ECDFs less the diagonal, with the band of uniform values."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.plots._style import ALARM, ink, line, marker, tint


def draw_band(ax: Axes, curve: xr.Dataset, label: str) -> float:
    """Draw the band of a result of `pit_ecdf` and a line at zero; returns the largest distance from zero."""
    z = curve["z"].values
    lower, upper = curve["lower"].values - z, curve["upper"].values - z
    ax.fill_between(z, lower, upper, color=tint(ax, ink(), 0.16), linewidth=0, label=label, zorder=0)
    ax.axhline(0.0, color=ink(), linewidth=line(0.5), zorder=1)
    return float(np.abs([lower, upper]).max())


def draw_curve(ax: Axes, curve: xr.Dataset, settings: dict[str, Any], one_of_several: bool = False) -> float:
    """Draw the curve, with dots outside the band; returns the largest distance of the curve from zero.

    The legend gives the number of points outside; for one of several curves it follows the name, and the dots have the
    colour of the curve.
    """
    z = curve["z"].values
    ecdf, lower, upper = (curve[name].values - z for name in ("ecdf", "lower", "upper"))
    outside = f"outside at {curve.attrs['outside']} of {len(z)} points" if curve.attrs["outside"] else ""
    if one_of_several and outside:
        settings = {**settings, "label": f"{settings['label']}, {outside}"}
    ax.plot([0, *z, 1], [0, *ecdf, 0], **settings)
    if outside:
        slack = 0.5 / curve.attrs["n"]
        out = (ecdf < lower - slack) | (ecdf > upper + slack)
        colour, label = (settings["color"], "") if one_of_several else (ALARM, outside)
        ax.plot(z[out], ecdf[out], "o", color=colour, markersize=marker(0.55), label=label)
    return float(np.abs(ecdf).max())


def frame(ax: Axes, reach: float, xlabel: str, ylabel: str) -> None:
    """Labels, and limits symmetric about zero with room for the legend above the band."""
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(-1.1 * reach, 1.65 * reach))
