"""Pulls of both intercepts of a track, in a few numbers."""

import numpy as np
import xarray as xr

from posterity.inference.diagnostics import pull_summary

NAMES = ("mean", "mean_se", "width", "width_se", "robust_width")


def of_both(b1: np.ndarray, b2: np.ndarray) -> dict[str, float]:
    """`NAMES` of pulls of the two intercepts, as ``width.b1``, and the mean of both, as ``width``.

    The error is the mean of both as well, not smaller: the two intercepts of a track are not independent.
    """
    each = [pull_summary(xr.Dataset({"pull": ("obs", values)})) for values in (b1, b2)]
    found = {f"{name}.b{which}": float(summary[name]) for which, summary in enumerate(each, 1) for name in NAMES}
    return found | {name: (found[f"{name}.b1"] + found[f"{name}.b2"]) / 2 for name in NAMES}
