"""Mean and width of the pulls of both intercepts of a track."""

import numpy as np
import xarray as xr

from posterity.inference.diagnostics import pull_summary

NAMES = ("mean", "mean_se", "width", "width_se", "robust_width")


def pull_summaries(b1: np.ndarray, b2: np.ndarray) -> dict[str, float]:
    """`NAMES` of the pulls of each intercept, such as ``width.b1``, and their mean over both, such as ``width``.

    The standard errors are averaged as well, because the two intercepts of a track are not independent.
    """
    summaries = [pull_summary(xr.Dataset({"pull": ("obs", values)})) for values in (b1, b2)]
    metrics = {f"{name}.b{which}": float(summary[name]) for which, summary in enumerate(summaries, 1) for name in NAMES}
    return metrics | {name: (metrics[f"{name}.b1"] + metrics[f"{name}.b2"]) / 2 for name in NAMES}
