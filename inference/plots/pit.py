"""The distribution of PIT values, as its difference from uniform.

The ECDF is drawn rather than a histogram: it needs no bins, and has an exact simultaneous band. Read it by its
slope: where the curve rises there are too many y. Up, down through zero and up again is a predictive that is
too narrow; the opposite (down first) one too wide; a bow to one side is a bias.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from posterity.inference.diagnostics.ecdf import pit_ecdf
from posterity.inference.plots._axes import BLUE, INK, SKY, VERMILION, axes


def plot_pit(
    pit: xr.Dataset,
    *,
    prob: float = 0.95,
    ax: Axes | None = None,
    xlabel: str = "PIT  u = F(y|x)",
    ylabel: str = "ECDF(u) - u",
) -> Axes:
    """ECDF of ``pit`` minus the diagonal, with the band in which all of it stays with probability ``prob``.

    Takes what `pit` returns; for the band see `ecdf_band`. Parts of the curve outside of it are marked.
    Returns the axes. Raises ``ValueError`` as `pit_ecdf`.
    """
    curve = pit_ecdf(pit, prob=prob)
    z = curve["z"].values
    ecdf, lower, upper = (curve[name].values - z for name in ("ecdf", "lower", "upper"))
    ax = axes(ax)
    ax.fill_between(z, lower, upper, color=SKY, alpha=0.35, linewidth=0, label=f"{prob:.0%} simultaneous band")
    ax.axhline(0.0, color=INK, linewidth=0.8)
    ax.plot([0, *z, 1], [0, *ecdf, 0], color=BLUE, linewidth=1.8, label=f"{curve.attrs['n']:,} observations")
    if curve.attrs["outside"]:
        slack = 0.5 / curve.attrs["n"]
        out = (ecdf < lower - slack) | (ecdf > upper + slack)
        label = f"outside at {curve.attrs['outside']} of {len(z)} points"
        ax.plot(z[out], ecdf[out], "o", color=VERMILION, markersize=3.5, label=label)
    # Symmetric about zero, with room for the legend above the band.
    reach = 1.1 * float(np.abs([ecdf, lower, upper]).max())
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(-reach, 1.5 * reach))
    ax.legend(frameon=False, fontsize="small", loc="upper right")
    return ax
