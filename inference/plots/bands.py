"""The predictive over one input: its median, the regions it promises, and what of them is lack of data."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes

from posterity.inference.diagnostics._rows import by_rows
from posterity.inference.diagnostics._source import check_mixture, require_scalar_event
from posterity.inference.plots._axes import BLUE, VERMILION, Values, axes, points, tint, vector
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


def plot_bands(
    predictive: Mixture,
    x: Values,
    *,
    y: Values | None = None,
    x_data: Values | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    split: bool = True,
    ax: Axes | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
) -> Axes:
    """Median and central ``levels`` of the predictive over ``x`` (N,), from its quantiles, with the data on top.

    With ``split``, a `PredictiveMixture` of several draws also shows, between dashed lines, where the widest
    level of the *mean* lies: E[y|x] of one draw after the other. That part would close with more data, the rest
    would not. ``y`` are observations at ``x_data``, or at ``x``. Where the predictive has two peaks the central
    band spans the gap between them: use `plot_density`.
    Returns the axes. Raises ``ValueError`` for levels outside (0, 1) and inputs of other shapes.
    """
    require_scalar_event(check_mixture(predictive))
    at = vector("x", x, predictive.batch_shape[0])
    wanted = sorted(levels)
    if not wanted or not all(0 < level < 1 for level in wanted):
        raise ValueError(f"expected levels in (0, 1), got {levels}")
    order = np.argsort(at)
    ends = torch.tensor([0.5 * (1 + sign * level) for level in wanted for sign in (-1, 1)] + [0.5]).double()
    quantiles = by_rows(predictive, lambda part, rows: part.icdf(ends[:, None]), per_row=len(ends))[:, order]
    ax = axes(ax)
    for index in reversed(range(len(wanted))):
        low, high = quantiles[2 * index], quantiles[2 * index + 1]
        strength = 0.15 + 0.35 * (len(wanted) - 1 - index) / max(1, len(wanted) - 1)
        label = f"{wanted[index]:.0%} of y"
        ax.fill_between(at[order], low, high, color=tint(BLUE, strength), linewidth=0, label=label, zorder=1)
    ax.plot(at[order], quantiles[-1], color=BLUE, linewidth=2, label="median", zorder=3)
    if split and isinstance(predictive, PredictiveMixture) and predictive.num_draws > 1:
        low, high = _mean_band(predictive, wanted[-1])[:, order]
        for end, label in ((low, f"{wanted[-1]:.0%} of the mean (epistemic)"), (high, "")):
            ax.plot(at[order], end, color=VERMILION, linestyle="--", linewidth=1.4, zorder=3, label=label)
    points(ax, at, y, x_data)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _mean_band(predictive: PredictiveMixture, level: float) -> np.ndarray:
    """Central quantiles (2, N) of E[y|x, draw] over the draws, each with its weight."""

    def evaluate(part: Mixture, rows: slice) -> torch.Tensor:
        if not isinstance(part, PredictiveMixture):
            raise TypeError(f"expected a PredictiveMixture, got {type(part).__name__}")
        means, place = part.per_draw.mean.sort(-1)
        cumulated = part.log_draw_weights.exp().gather(-1, place).cumsum(-1)
        ends = torch.tensor([0.5 * (1 - level), 0.5 * (1 + level)]).double().expand(len(means), 2).contiguous()
        index = torch.searchsorted(cumulated, ends).clamp_max(means.shape[-1] - 1)
        return means.gather(-1, index).T

    return by_rows(predictive, evaluate)
