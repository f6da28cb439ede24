"""Does a model know what it has not seen? Scores of every observation, and how well they tell new ones from the known.

An uncertainty that is right on the data it was made for may be small where there were none, which no calibration on
held-out data shows. So observations from elsewhere are scored beside those from here: `ood_scores` takes what a model
says of its own uncertainty, `ood_detection` measures how often a stranger has the larger score. Mutual information and
epistemic variance are made for this; entropy and the largest probability also rise where classes overlap, and what is
ambiguous is not strange. `refusal_curve` asks the same of mistakes: is the model right more often if it may refuse?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from posterity.inference.diagnostics.decomposition.information import as_mixture, information_split
from posterity.inference.diagnostics.decomposition.variance import uncertainty_split
from posterity.inference.diagnostics.sources.reading import is_mixture
from posterity.validation import check_number, to_numbers

ORIENTATION = "larger is stranger"


def ood_scores(source: Any, *, samples: int | None = None, var_name: str | None = None, seed: int = 0) -> xr.Dataset:
    """What may give a stranger away, over "obs"; of each score larger is stranger.

    ``source`` and the arguments are those of `information_split`; or it is what that or `uncertainty_split` returned.

    - Of classes: ``entropy`` (predictive, nats; Hendrycks & Gimpel 2017 for this and the next), ``max_probability``
      (one less it), ``mutual_information`` (nats), ``variation_ratio``.
    - Of numbers: ``entropy``, ``mutual_information``, ``variance`` and its ``epistemic`` part, in squared units of y,
      summed over the targets where they are several (standardise these first).

    Raises ``ValueError`` as `information_split` does, and for a Dataset that neither has returned.

    >>> agree, differ = [[0.9, 0.1], [0.9, 0.1]], [[1.0, 0.0], [0.0, 1.0]]  # two points by two classes, of two draws
    >>> scores = ood_scores(np.stack([agree, differ], 1))
    >>> scores.mutual_information.values.round(3), scores.max_probability.values.round(3)
    (array([0.   , 0.693]), array([0.1, 0.5]))
    """
    if isinstance(source, xr.Dataset):
        return _oriented(source)
    source = as_mixture(source)
    scores = _oriented(information_split(source, samples=samples, var_name=var_name, seed=seed))
    if is_mixture(source):
        scores = scores.merge(_oriented(uncertainty_split(source)), combine_attrs="override")
    return scores


def ood_detection(inside: xr.Dataset, outside: xr.Dataset) -> xr.Dataset:
    """How well each score tells strangers from what the model was made for, over "score".

    ``inside`` and ``outside`` are what `ood_scores` returned (or `information_split`, or `uncertainty_split`) for
    observations of the model's own kind, not used for its fit, and for others. Of the scores that both have:

    - ``auroc``: how often a stranger has the larger score, 1/2 by guessing; ``auroc_se``: see `auroc`.
    - ``fpr95``: the share of strangers taken for known where 95 % of the known are (see `fpr_at_tpr`).
    - ``aupr``: the average precision at finding strangers, whose share is the value by guessing, in
      ``attrs["share"]`` (see `average_precision`).

    Raises ``ValueError`` for Datasets without a score in common, and as `auroc`.

    >>> def scores(values):
    ...     return ood_scores(xr.Dataset({"mutual_information": ("obs", values)}))
    >>> found = ood_detection(scores([0.0, 0.1, 0.2, 0.3]), scores([0.25, 0.4]))
    >>> float(found.auroc[0]), float(found.fpr95[0])
    (0.875, 0.5)
    """
    a, b = _named_scores("inside", inside), _named_scores("outside", outside)
    names = [str(name) for name in a.data_vars if name in b]
    if not names:
        raise ValueError(f"expected Datasets with a score in common, got {list(a.data_vars)} and {list(b.data_vars)}")
    rows: list[dict[str, float]] = []
    for name in names:
        known, strange = a[name].values.reshape(-1), b[name].values.reshape(-1)
        area = auroc(known, strange)
        rows.append(
            {
                "auroc": float(area["auroc"]),
                "auroc_se": float(area["auroc_se"]),
                "fpr95": fpr_at_tpr(known, strange),
                "aupr": average_precision(known, strange),
            }
        )
    inner, outer = a[names[0]].size, b[names[0]].size
    columns = {name: ("score", [row[name] for row in rows]) for name in rows[0]}
    attrs = {"n_inside": inner, "n_outside": outer, "share": outer / (inner + outer)}
    return xr.Dataset(columns, coords={"score": names}, attrs=attrs)


def _named_scores(name: str, scores: Any) -> xr.Dataset:
    try:
        return ood_scores(scores)
    except ValueError as error:
        raise ValueError(f"expected {name} as ood_scores() returns it, got another: {error}") from None


def auroc(inside: Any, outside: Any) -> xr.Dataset:
    """Scalars ``auroc``, P(a stranger's score is the larger), ties counted as one half, and its error ``auroc_se``.

    ``inside`` (n,) and ``outside`` (m,) are scores, larger for strangers; 2 or more of each, that may be infinite. The
    area under the receiver's operating curve is the Mann-Whitney statistic; its error is that of DeLong, DeLong &
    Clarke-Pearson 1988 (Biometrics 44, 837-845), by ranks (Sun & Xu 2014), and 0 where the two do not overlap, which
    says that there are too few to see an error and not that there is none.
    Raises ``ValueError`` for fewer scores, nan, or more than one dimension.

    >>> area = auroc([0.0, 1.0, 2.0], [1.0, 3.0])
    >>> round(float(area.auroc), 4), round(float(area.auroc_se), 4)
    (0.75, 0.2887)
    """
    known, strange = _scores("inside", inside), _scores("outside", outside)
    n, m = len(known), len(strange)
    together = rankdata(np.concatenate([known, strange]))
    above = (together[n:] - rankdata(strange)) / n  # of each stranger: the share of the known with smaller scores
    below = 1 - (together[:n] - rankdata(known)) / m  # of each known one: the share of strangers with larger ones
    error = np.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m)
    return xr.Dataset({"auroc": float(above.mean()), "auroc_se": float(error)}, attrs={"n_inside": n, "n_outside": m})


def fpr_at_tpr(inside: Any, outside: Any, tpr: float = 0.95) -> float:
    """The share of strangers with scores no larger than the one that ``tpr`` of the known do not exceed.

    0 is best, ``tpr`` what guessing gives. Known counts as positive (Liang, Li & Srikant 2018, arXiv:1706.02690).
    Raises ``ValueError`` for a ``tpr`` outside (0, 1], and as `auroc`.
    """
    known, strange = _scores("inside", inside), _scores("outside", outside)
    check_number("tpr", tpr, "(0, 1]")
    threshold = np.sort(known)[int(np.ceil(tpr * len(known) * (1 - 1e-12))) - 1]
    return float((strange <= threshold).mean())


def average_precision(inside: Any, outside: Any) -> float:
    """The mean precision over the strangers, each with all scores no smaller than its own taken for strangers.

    The area under the curve of precision against recall, as a sum of steps. Raises ``ValueError`` as `auroc`.
    """
    known, strange = _scores("inside", inside), _scores("outside", outside)
    ordered = np.sort(strange)
    found = len(strange) - np.searchsorted(ordered, ordered, side="left")
    wrong = len(known) - np.searchsorted(np.sort(known), ordered, side="left")
    return float((found / (found + wrong)).mean())


def refusal_curve(score: Any, correct: Any) -> xr.Dataset:
    """Accuracy against the share of observations refused, those with the largest scores first.

    ``score`` (N,) is larger where the model is less sure, and ``correct`` (N,) true where it is right, or between 0 and
    1 for how right. Returns over "refused" (0, 1/N, ... 1 - 1/N) ``accuracy``, among those that are left, and
    ``accuracy_se``, its binomial standard error sqrt(a (1 - a) / n); where scores are tied it is the mean over all
    orders of them. Scalars: ``area``, the mean accuracy over the curve, and ``area_best`` and ``area_random``, those of
    an oracle that refuses what is wrong and of a score that knows nothing (Nadeem, Zucker & Hanczar 2009).
    Raises ``ValueError`` for other shapes, nan, or ``correct`` outside [0, 1].

    >>> curve = refusal_curve([0.1, 0.2, 0.3, 0.4], [True, True, False, True])
    >>> curve.accuracy.values.round(3)
    array([0.75 , 0.667, 1.   , 1.   ])
    """
    values = _scores("score", score, least=1)
    right = to_numbers("correct", correct)
    if right.shape != values.shape:
        raise ValueError(f"expected correct of shape {values.shape}, got {right.shape}")
    if not ((right >= 0) & (right <= 1)).all():
        raise ValueError("expected correct as true or false, or between 0 and 1, got other values")
    count = len(values)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_of_tied = np.bincount(group, right) / sizes
    kept = np.arange(count, 0, -1)
    accuracy = _kept(np.sort(group), mean_of_tied)
    return xr.Dataset(
        {
            "accuracy": ("refused", accuracy),
            "accuracy_se": ("refused", np.sqrt(accuracy * (1 - accuracy) / kept)),
            "area": float(accuracy.mean()),
            "area_best": float(_kept(np.arange(count), np.sort(right)[::-1]).mean()),
            "area_random": float(right.mean()),
        },
        coords={"refused": 1 - kept / count},
        attrs={"n": count},
    )


def _kept(order: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean of ``right[order]`` over the first n, ... 2, 1."""
    total = np.cumsum(right[order])
    return np.clip(total / np.arange(1, len(order) + 1), 0.0, 1.0)[::-1]


def _scores(name: str, values: Any, least: int = 2) -> np.ndarray:
    array = to_numbers(name, values)
    if array.ndim != 1 or len(array) < least:
        raise ValueError(f"expected {name} of shape (N,), N of {least} or more, got {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"expected {name} without nan, got {int(np.isnan(array).sum())}")
    return array


def _oriented(split: xr.Dataset) -> xr.Dataset:
    """The scores of a split, every one larger for a stranger; those of `ood_scores` as they are."""
    if split.attrs.get("orientation") == ORIENTATION:
        return split
    scores = {}
    for name, wanted in (
        ("entropy", "total_entropy"),
        ("mutual_information", "mutual_information"),
        ("variation_ratio", "variation_ratio"),
        ("max_probability", "max_probability"),
        ("variance", "total"),
        ("epistemic", "epistemic"),
    ):
        if wanted in split:
            scores[name] = 1 - split[wanted] if name == "max_probability" else split[wanted]
    if not scores:
        raise ValueError(
            "expected a Dataset that information_split, uncertainty_split or ood_scores returned, got variables "
            f"{list(split.data_vars)}"
        )
    summed = {name: values.sum("target") if "target" in values.dims else values for name, values in scores.items()}
    return xr.Dataset(summed, attrs={**split.attrs, "orientation": ORIENTATION})
