"""Scores that separate observations unlike the training data (out of distribution) from usual ones.

An uncertainty that is right on usual data may be small where there were no data, which calibration on held-out data
does not show. So observations from elsewhere are scored together with usual ones: `ood_scores` collects what a model
says about its own uncertainty, and `ood_detection` measures how often an unusual observation has the larger score.
Mutual information and epistemic variance are made for this; entropy and the largest probability also rise where classes
overlap, and ambiguous is not unusual. `refusal_curve` asks the same about errors: is the model right more often if it
may refuse to answer?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from posterity.inference.diagnostics.decomposition.information import as_mixture, information_split
from posterity.inference.diagnostics.decomposition.variance import uncertainty_split
from posterity.inference.diagnostics.sources.reading import is_mixture
from posterity.inference.diagnostics.sources.results import contents
from posterity.validation import check_number, to_numbers

ORIENTATION = "larger is more unusual"
"""``attrs["orientation"]`` of scores."""


def ood_scores(source: Any, *, samples: int | None = None, var_name: str | None = None, seed: int = 0) -> xr.Dataset:
    """Scores over "obs" that are larger for unusual observations.

    - For classes: ``entropy`` (predictive, in nats; Hendrycks & Gimpel 2017 for this and the next), ``max_probability``
      (1 less the largest probability), ``mutual_information`` (nats), ``variation_ratio``.
    - For numbers: ``entropy``, ``mutual_information``, ``variance`` and its ``epistemic`` part, in squared units of y,
      summed over the targets if there are several (standardise these first).

    ``source`` and the other arguments are those of `information_split`; or ``source`` is a result of
    `information_split` or `uncertainty_split`.

    Raises:
        ValueError: as `information_split`, and if a Dataset is not a result of these functions.

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
    """How well each score separates unusual observations from usual ones, over "score".

    ``inside`` and ``outside`` are results of `ood_scores` (or `information_split`, or `uncertainty_split`) for usual
    observations that were not used for the fit, and for unusual ones. For the scores that both have:

    - ``auroc``: probability that an unusual observation has the larger score, 1/2 by guessing; ``auroc_se``: see
      `auroc`.
    - ``fpr95``: share of unusual observations that are accepted if 95 % of the usual ones are (see `fpr_at_tpr`).
    - ``aupr``: average precision at finding unusual observations (see `average_precision`); by guessing it is their
      share, ``attrs["share"]``.

    Raises:
        ValueError: if the Datasets have no score in common, and as `auroc`.

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
        usual, unusual = a[name].values.reshape(-1), b[name].values.reshape(-1)
        area = auroc(usual, unusual)
        rows.append(
            {
                "auroc": float(area["auroc"]),
                "auroc_se": float(area["auroc_se"]),
                "fpr95": fpr_at_tpr(usual, unusual),
                "aupr": average_precision(usual, unusual),
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
        raise ValueError(f"expected {name} to be a result of ood_scores(), got another: {error}") from None


def auroc(inside: Any, outside: Any) -> xr.Dataset:
    """Scalars ``auroc``, P(an unusual observation has the larger score), ties counted half, and ``auroc_se``.

    ``inside`` (n,) and ``outside`` (m,) are scores, at least 2 of each, larger for unusual observations, possibly
    infinite. The area under the receiver operating characteristic is the Mann-Whitney statistic; its error is that of
    DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44, 837-845), by ranks (Sun & Xu 2014). The error is 0 if the
    scores do not overlap: there are then too few observations to estimate it.

    Raises:
        ValueError: if there are fewer scores, nan, or more than one dimension.

    >>> area = auroc([0.0, 1.0, 2.0], [1.0, 3.0])
    >>> round(float(area.auroc), 4), round(float(area.auroc_se), 4)
    (0.75, 0.2887)
    """
    usual, unusual = _checked_scores("inside", inside), _checked_scores("outside", outside)
    n, m = len(usual), len(unusual)
    ranks = rankdata(np.concatenate([usual, unusual]))
    above = (ranks[n:] - rankdata(unusual)) / n  # share of usual scores below each unusual one
    below = 1 - (ranks[:n] - rankdata(usual)) / m  # share of unusual scores above each usual one
    error = np.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m)
    return xr.Dataset({"auroc": float(above.mean()), "auroc_se": float(error)}, attrs={"n_inside": n, "n_outside": m})


def fpr_at_tpr(inside: Any, outside: Any, tpr: float = 0.95) -> float:
    """Share of unusual observations with scores no larger than the ``tpr`` quantile of the usual ones.

    0 is best, ``tpr`` is guessing. Usual counts as positive (Liang, Li & Srikant 2018, arXiv:1706.02690).

    Raises:
        ValueError: if ``tpr`` is not in (0, 1], and as `auroc`.
    """
    usual, unusual = _checked_scores("inside", inside), _checked_scores("outside", outside)
    check_number("tpr", tpr, "(0, 1]")
    threshold = np.sort(usual)[int(np.ceil(tpr * len(usual) * (1 - 1e-12))) - 1]
    return float((unusual <= threshold).mean())


def average_precision(inside: Any, outside: Any) -> float:
    """Mean precision over the unusual observations, with a threshold at each of their scores.

    The area under the precision-recall curve, as a sum of steps; errors as `auroc`.
    """
    usual, unusual = _checked_scores("inside", inside), _checked_scores("outside", outside)
    ordered = np.sort(unusual)
    hits = len(unusual) - np.searchsorted(ordered, ordered, side="left")
    false_alarms = len(usual) - np.searchsorted(np.sort(usual), ordered, side="left")
    return float((hits / (hits + false_alarms)).mean())


def refusal_curve(score: Any, correct: Any) -> xr.Dataset:
    """Accuracy against the share of observations refused, those with the largest scores first.

    ``score`` (N,) is larger if the model is less certain, and ``correct`` (N,) is true if it is right, or a number in
    [0, 1]. Returns over "refused" (0, 1/N, ..., 1 - 1/N) ``accuracy`` of the remaining observations, the mean over all
    orders of tied scores, and ``accuracy_se``, its binomial standard error sqrt(a (1 - a) / n). Scalars: ``area``, the
    mean accuracy over the curve; ``area_best`` and ``area_random``, those of an oracle that refuses wrong answers first
    and of an uninformative score (Nadeem, Zucker & Hanczar 2009).

    Raises:
        ValueError: if shapes do not match, scores are nan, or ``correct`` is not in [0, 1].

    >>> curve = refusal_curve([0.1, 0.2, 0.3, 0.4], [True, True, False, True])
    >>> curve.accuracy.values.round(3)
    array([0.75 , 0.667, 1.   , 1.   ])
    """
    values = _checked_scores("score", score, least=1)
    right = to_numbers("correct", correct)
    if right.shape != values.shape:
        raise ValueError(f"expected correct of shape {values.shape}, got {right.shape}")
    if not ((right >= 0) & (right <= 1)).all():
        raise ValueError("expected correct to be true or false, or numbers in [0, 1], got other values")
    count = len(values)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_of_tied = np.bincount(group, right) / sizes
    remaining = np.arange(count, 0, -1)
    accuracy = _accuracy(np.sort(group), mean_of_tied)
    return xr.Dataset(
        {
            "accuracy": ("refused", accuracy),
            "accuracy_se": ("refused", np.sqrt(accuracy * (1 - accuracy) / remaining)),
            "area": float(accuracy.mean()),
            "area_best": float(_accuracy(np.arange(count), np.sort(right)[::-1]).mean()),
            "area_random": float(right.mean()),
        },
        coords={"refused": 1 - remaining / count},
        attrs={"n": count},
    )


def _accuracy(order: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean of ``right[order]`` over the first n, ..., 2, 1."""
    total = np.cumsum(right[order])
    return np.clip(total / np.arange(1, len(order) + 1), 0.0, 1.0)[::-1]


def _checked_scores(name: str, values: Any, least: int = 2) -> np.ndarray:
    array = to_numbers(name, values)
    if array.ndim != 1 or len(array) < least:
        raise ValueError(f"expected {name} of shape (N,), N of {least} or more, got {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"expected {name} without nan, got {int(np.isnan(array).sum())}")
    return array


def _oriented(split: xr.Dataset) -> xr.Dataset:
    """The scores of a split, each larger for unusual observations; a result of `ood_scores` is returned as it is."""
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
            "expected source as a result of information_split(), uncertainty_split() or ood_scores(), got "
            f"{contents(split)}"
        )
    summed = {name: values.sum("target") if "target" in values.dims else values for name, values in scores.items()}
    return xr.Dataset(summed, attrs={**split.attrs, "orientation": ORIENTATION})
