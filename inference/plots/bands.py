"""The predictive over one input: its median, the regions it promises, and what of them is lack of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posterity.inference.diagnostics.sources.source import is_mixture
from posterity.inference.plots._axes import axes, options, places, points, vector
from posterity.inference.plots._style import EPISTEMIC, legend, line, series, tint
from posterity.validation import check_finite, check_flag, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from posterity.inference.plots._axes import Values
    from posterity.inference.predictive import PredictiveMixture
    from posterity.models.mixtures import Mixture


def plot_bands(
    predictive: Mixture | Values,
    x: Values,
    *,
    y: Values | None = None,
    x_data: Values | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    split: bool = True,
    ax: Axes | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    plot_kwargs: Mapping[str, Any] | None = None,
) -> Axes:
    """Median and central ``levels`` of the predictive over ``x`` (N,), from its quantiles, with the data on top.

    ``predictive`` is a `Mixture` of batch shape (N,), or draws (S, N) of y, as a generator or a file gives them. With
    ``split``, a `PredictiveMixture` of several draws also shows, between dashed lines, where the widest level of the
    *mean* lies: E[y|x] of one draw after the other. That part would close with more data, the rest would not. ``y`` are
    observations at ``x_data``, or at ``x``. Where the predictive has two peaks the central band spans the gap between
    them: use `plot_conditional_density`. ``plot_kwargs`` are for the median's line; the bands are tints of its colour.
    Returns the axes. Raises ``ValueError`` for levels outside (0, 1) and inputs of other shapes.
    """
    wanted = check_levels(levels)
    check_flag("split", split)
    ends = np.array([0.5 * (1 + sign * level) for level in wanted for sign in (-1, 1)] + [0.5])
    quantiles = _quantiles(predictive, ends)
    at = vector("x", x, quantiles.shape[1])
    data = places(at, y, x_data)
    order = np.argsort(at)
    quantiles = quantiles[:, order]
    ax = axes(ax)
    median = options(Line2D, plot_kwargs, color=series(1)[0], linewidth=line(1.3), label="median", zorder=3)
    for index in reversed(range(len(wanted))):
        low, high = quantiles[2 * index], quantiles[2 * index + 1]
        shade = tint(ax, median["color"], 0.15 + 0.35 * (len(wanted) - 1 - index) / max(1, len(wanted) - 1))
        ax.fill_between(at[order], low, high, color=shade, linewidth=0, label=f"{wanted[index]:.0%} of y", zorder=1)
    ax.plot(at[order], quantiles[-1], **median)
    if split and getattr(predictive, "num_draws", 1) > 1:
        low, high = _mean_band(predictive, wanted[-1])[:, order]
        for end, label in ((low, f"{wanted[-1]:.0%} of the mean (epistemic)"), (high, "")):
            ax.plot(at[order], end, color=EPISTEMIC, linestyle="--", linewidth=line(1.1), zorder=3, label=label)
    points(ax, *data)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0)
    legend(ax, frame=True)
    return ax


def check_levels(levels: Sequence[float]) -> list[float]:
    """The levels in ascending order; ``ValueError`` unless there are any, all in (0, 1)."""
    given = to_numbers("levels", levels)
    wanted = sorted(given.tolist()) if given.ndim == 1 else []
    if not wanted or not all(0 < level < 1 for level in wanted):
        raise ValueError(f"expected levels to be numbers in (0, 1), got {levels}")
    return wanted


def _quantiles(predictive: Any, ends: np.ndarray) -> np.ndarray:
    """Those of a mixture, exact, or of draws: (Q, N)."""
    if not is_mixture(predictive):
        if not isinstance(predictive, np.ndarray) and not hasattr(predictive, "ndim"):
            raise ValueError(f"expected a Mixture, or draws (draws, N), got {type(predictive).__name__}")
        draws = to_numbers("draws", predictive)
        if draws.ndim != 2 or 0 in draws.shape:
            raise ValueError(f"expected draws of shape (draws, N), got {draws.shape}")
        check_finite("draws", draws)
        return np.quantile(draws, ends, axis=0)
    import torch

    from posterity.inference.diagnostics.sources.mixture import check_mixture, require_scalar_event
    from posterity.models.mixtures.row_chunks import by_rows

    require_scalar_event(check_mixture(predictive))
    wanted = torch.as_tensor(ends)[:, None]
    return by_rows(predictive, lambda part, rows: part.icdf(wanted), per_row=len(ends))


def _mean_band(predictive: Any, level: float) -> np.ndarray:
    """Central quantiles (2, N) of E[y|x, draw] over the draws, each with its weight."""
    import torch

    from posterity.models.mixtures.row_chunks import by_rows

    def evaluate(part: PredictiveMixture, rows: slice) -> Tensor:
        means, place = part.per_draw.mean.sort(-1)
        cumulated = part.log_draw_weights.exp().gather(-1, place).cumsum(-1)
        ends = torch.tensor([0.5 * (1 - level), 0.5 * (1 + level)]).double().expand(len(means), 2).contiguous()
        index = torch.searchsorted(cumulated, ends).clamp_max(means.shape[-1] - 1)
        return means.gather(-1, index).T

    return by_rows(predictive, evaluate)
