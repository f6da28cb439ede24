"""Histograms of a score of usual and unusual observations, and the curve of all thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from posterity.inference.diagnostics.decomposition.ood import auroc
from posterity.inference.plots._axes import panels, vector
from posterity.inference.plots._style import ink, legend, line, series, tint
from posterity.validation import check_integer, check_names

if TYPE_CHECKING:
    from posterity.inference.plots._axes import Values


def plot_ood(
    in_scores: Values,
    out_scores: Values,
    *,
    bins: int = 40,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    xlabel: str = "score",
    labels: Sequence[str] = ("in distribution", "out of distribution"),
    colors: Sequence[Any] | None = None,
) -> np.ndarray:
    """Histograms of a score of usual observations (N,) and of unusual ones (M,), and beside them the ROC curve.

    Higher scores must mean "unusual": negate a density. The curve shows, for every threshold, the share of unusual
    observations above it against the share of usual ones. The area below it (AUROC) is the probability that an unusual
    observation has the higher score, ties counted half; 0.5 is chance. Its error is that of `auroc`.

    Args:
        in_scores: scores of usual observations (N,).
        out_scores: scores of unusual observations (M,).
        bins: number of bins of the histograms.
        ax: two axes, by default those of a new figure.
        figsize: size of the new figure, in inches.
        xlabel: label of the score.
        labels: names of the two kinds of observations.
        colors: two colours.

    Returns:
        The two axes.

    Raises:
        ValueError: if scores are not finite or not (N,), there are fewer than 2 of either kind, or no bins.

    >>> from matplotlib.figure import Figure
    >>> _, right = plot_ood([0.0, 1.0, 2.0], [1.0, 3.0], ax=Figure().subplots(1, 2))
    >>> right.get_legend().get_texts()[1].get_text()  # of 6 pairs 4 in the right order, and a tie
    'AUROC 0.750 ± 0.289'
    """
    usual, other = vector("in_scores", in_scores), vector("out_scores", out_scores)
    check_integer("bins", bins, 1)
    for name, scores in (("in_scores", usual), ("out_scores", other)):
        if len(scores) < 2:
            raise ValueError(f"expected {name} of shape (N,), N of 2 or more, got {scores.shape}")
    if len(check_names("labels", labels)) != 2:
        raise ValueError(f"expected 2 labels, got {len(labels)}")
    colours = series(2, colors)
    refused, caught = _roc(usual, other)
    area = auroc(usual, other)
    score = f"AUROC {float(area['auroc']):.3f} ± {float(area['auroc_se']):.3f}"
    left, right = both = panels(1, 2, ax, figsize)[0]
    edges = np.histogram_bin_edges(np.r_[usual, other], bins)
    for values, name, colour in zip((usual, other), labels, colours, strict=True):
        density = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
        left.stairs(density, edges, fill=True, color=colour, alpha=0.4, label=f"{name} ({len(values):,})")
        left.stairs(density, edges, color=colour, linewidth=line(0.7))
    left.set(xlabel=xlabel, ylabel="density")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])  # room for the legend
    legend(left, loc="upper center", ncols=2)
    right.plot([0, 1], [0, 1], color=ink(), linewidth=line(0.7), linestyle="--", label="chance")
    right.fill_between(refused, caught, color=tint(right, colours[1], 0.15), linewidth=0)
    right.plot(refused, caught, color=colours[1], linewidth=line(1.3), label=score)
    right.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal", xlabel=f"{labels[0]}: share above threshold")
    right.set_ylabel(f"{labels[1]}: share above threshold")
    legend(right, loc="lower right", frame=True)
    return both


def _roc(usual: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares at or above each threshold, from the highest to the lowest; ties are one diagonal step."""
    thresholds = np.unique(np.r_[usual, other])[::-1]
    refused, caught = (
        1 - np.searchsorted(np.sort(values), thresholds, side="left") / len(values) for values in (usual, other)
    )
    return np.r_[0.0, refused], np.r_[0.0, caught]
