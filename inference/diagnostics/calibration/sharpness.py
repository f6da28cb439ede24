"""Sharpness of predictives and errors of their coverage: the two halves of "sharp, but calibrated".

Of two calibrated models the sharper one is better (Gneiting, Balabdaoui & Raftery 2007). Sharpness needs no y and does
not say whether it is justified; the calibration error needs y and ignores sharpness: a model that ignores x may have an
error of zero. Proper scores (`posterity.inference.diagnostics.scoring.scores`) weigh both.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.regions import LEVELS, coverage
from posterity.inference.diagnostics.scoring.interval_score import KINDS, regions
from posterity.inference.diagnostics.sources.groups import grouped
from posterity.inference.diagnostics.sources.levels import check_different_levels, over_levels
from posterity.inference.diagnostics.sources.reading import read
from posterity.inference.diagnostics.sources.results import check_result
from posterity.validation import check_choice, check_finite, check_integer, to_array, to_numbers


def sharpness(
    source: object,
    y: Any = None,
    *,
    levels: Sequence[float] = (0.5, 0.9),
    kind: str = "central",
    var_name: str | None = None,
) -> xr.Dataset:
    """``width`` of regions over ("level", "obs") and ``sd`` over "obs", in units of y, and their means.

    Means are ``mean_width`` over "level", ``mean_sd``, and ``rms_sd``, the root of the mean variance. If a predictive
    has no finite variance, ``sd`` is not finite, with a warning; its widths are finite.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data.
        y: observations (N,), which are not needed, and only checked if they are given.
        levels: probabilities of the regions.
        kind: "central" or "hdi", as for `interval_score`; the width of "hdi" is the length of all intervals together.
        var_name: the observed variable of ArviZ data, if there are several.

    Raises:
        ValueError: if ``levels`` are not in (0, 1), ``kind`` is unknown, or there is a single draw, and as `pit`.

    >>> draws = np.linspace(0, 10, 11)[:, None] * np.array([1.0, 2.0])
    >>> result = sharpness(draws, levels=[0.5])
    >>> result.width.values, result.mean_width.values
    (array([[ 5., 10.]]), array([7.5]))
    """
    wanted = check_different_levels(levels)
    check_choice("kind", kind, KINDS)
    data = read(source, y, var_name, needs_y=False)
    widths = regions(data, wanted, kind).length
    _, sd = data.moments()
    infinite = int((~np.isfinite(sd)).sum())
    if infinite:
        warnings.warn(
            f"sd is not finite for {infinite} of {sd.size} predictives, which have no variance; compare their widths",
            stacklevel=2,
        )
    result = over_levels(data, {"width": widths}, wanted, kind=kind, num_draws=data.num_draws)
    result = result.merge(data.dataset({"sd": sd}))
    means = {"mean_width": ("level", widths.mean(1)), "mean_sd": sd.mean(), "rms_sd": np.sqrt(np.mean(sd**2))}
    return result.assign(means)


def calibration_error(
    source: object,
    y: Any = None,
    *,
    levels: Sequence[float] = LEVELS,
    kind: str = "central",
    draws: int | None = None,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Errors of the coverage c of regions of level p, averaged over the levels; 0 is best.

    ``source`` is a result of `coverage` (with groups, the errors are by group), or what `coverage` takes; the other
    arguments are those of `coverage`.

    - ``mean_absolute``, of |c - p|: the area between coverage and diagonal (Kuleshov, Fenner & Ermon 2018 square it);
      ``root_mean_square``; ``maximum``.
    - ``mean_difference``, of c - p: below zero the regions are too small and the model is overconfident.
    - ``mean_absolute_by_chance``: the expected ``mean_absolute`` of a right model with this number of independent
      observations; an error up to that size is not evidence against the model. Exact, by the mean deviation of a
      binomial count (de Moivre; Diaconis & Zabell 1991, eq. 1.1).
    - ``mean_square_unbiased``, of (c - p)² less the variance c (1 - c)/(n - 1) due to chance: 0 on average for a right
      model, so it may be negative. nan for n = 1.

    Args:
        source: a result of `coverage`, or a `Mixture`, draws, or ArviZ data.
        y: observations, as for `coverage`.
        levels: probabilities of the regions.
        kind: "central" or "hdi".
        draws: as for `region_level`.
        var_name: the observed variable of ArviZ data, if there are several.
        seed: as for `region_level`.

    Raises:
        ValueError: if a Dataset is not a result of `coverage`, and as `coverage`.

    >>> found = coverage(np.tile(np.linspace(-1, 1, 99)[:, None], 50), np.zeros(50), levels=[0.5])  # y in the middle
    >>> error = calibration_error(found)
    >>> float(error.mean_difference), round(float(error.mean_absolute_by_chance), 3)
    (0.5, 0.056)
    """
    if isinstance(source, xr.Dataset):
        if y is not None:
            raise ValueError("expected no y with a result of coverage(), got y")
        result = check_result("coverage", source, "coverage", "n", "level")
    else:
        result = coverage(source, y, levels=levels, kind=kind, draws=draws, var_name=var_name, seed=seed)
    share, level = result["coverage"], result["level"]
    n = result["n"].broadcast_like(share)
    difference = share - level
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = share * (1 - share) / (n - 1).where(n > 1)
    # E|X - np| of a binomial X is 2 m (1 - p) P(X = m), with m the smallest whole number above np.
    above = np.floor(n * level) + 1
    chance = 2 * above * (1 - level) * xr.apply_ufunc(stats.binom.pmf, above, n, level) / n
    return xr.Dataset(
        {
            "mean_absolute": abs(difference).mean("level"),
            "root_mean_square": np.sqrt((difference**2).mean("level")),
            "maximum": abs(difference).max("level"),
            "mean_difference": difference.mean("level"),
            "mean_absolute_by_chance": chance.mean("level"),
            "mean_square_unbiased": (difference**2 - noise).mean("level", skipna=False),
            "n": result["n"],
        },
        attrs=result.attrs,
    )


def class_calibration_error(probabilities: Any, labels: Any, *, bins: int = 15) -> xr.Dataset:
    """Expected calibration error of class probabilities, and the error that chance explains.

    ``probabilities`` (N, C) of C >= 2 classes have rows that sum to one; ``labels`` (N,) are whole numbers from 0. (A
    separate function, since an array (N, C) cannot be told from draws (S, N).)

    The highest probability of each row, its ``confidence``, is compared with the frequency at which that class is
    right, its ``accuracy``, in ``bins`` bins of equally many rows (Naeini, Cooper & Hauskrecht 2015; ties stay
    together, so there may be fewer bins): ``confidence``, ``accuracy`` and ``count`` over "bin". With shares w of the
    rows,

    - ``ece``: sum of w |accuracy - confidence|;
    - ``ece_by_chance``: the expected ``ece`` if the confidences are right, from E|error| of each bin by its normal
      limit; an ``ece`` up to that size is not evidence against them;
    - ``mean_square_unbiased``: sum of w ((accuracy - confidence)² - accuracy (1 - accuracy)/(count - 1)), without the
      bias due to chance (Kumar, Liang & Ma 2019, arXiv:1909.10155, section 4); it may be negative;
    - ``classwise_ece`` and ``classwise_ece_by_chance``: the same for the probability of every class against its
      frequency, averaged over the classes (Kull et al. 2019, arXiv:1910.12656); a model may be right only for its first
      choice.

    Within a bin errors of opposite sign cancel: with few bins the error is underestimated, with many bins it is due to
    chance.

    Raises:
        ValueError: if shapes do not match, probabilities are not real numbers or do not sum to one, labels are not
            among the classes, ``bins`` is less than 1, or a bin has a single row.

    >>> rng = np.random.default_rng(0)
    >>> right = rng.dirichlet([1.0, 1.0, 1.0], size=20_000)
    >>> labels = (rng.random((20_000, 1)) > right.cumsum(1)).sum(1)
    >>> error = class_calibration_error(right, labels)
    >>> bool(error.ece < 2 * error.ece_by_chance)
    True
    """
    values, known = _check_classes(probabilities, labels, bins)
    rows = np.arange(len(values))
    top = values.argmax(1)
    table = _binned(values[rows, top], top == known, bins)
    classwise = np.mean(
        [_errors(_binned(values[:, one], known == one, bins))[:2] for one in range(values.shape[1])], axis=0
    )
    ece, chance, square = _errors(table)
    confidence, accuracy, _, count = table
    return xr.Dataset(
        {
            "ece": ece,
            "ece_by_chance": chance,
            "mean_square_unbiased": square,
            "classwise_ece": classwise[0],
            "classwise_ece_by_chance": classwise[1],
            "confidence": ("bin", confidence),
            "accuracy": ("bin", accuracy),
            "count": ("bin", count.astype(int)),
            "n": len(values),
        },
        attrs={"bins": bins, "classes": values.shape[1]},
    )


def _check_classes(probabilities: Any, labels: Any, bins: int) -> tuple[np.ndarray, np.ndarray]:
    values, known = to_numbers("probabilities", probabilities), to_array(labels, "labels")
    if values.ndim != 2 or len(values) == 0 or values.shape[1] < 2:
        raise ValueError(f"expected probabilities of shape (N, C >= 2), got {values.shape}")
    check_finite("probabilities", values)
    if values.min() < 0 or np.abs(values.sum(1) - 1).max() > 1e-4:
        raise ValueError(f"expected rows of probabilities that sum to one, got {values[0].tolist()} and others")
    if known.shape != (len(values),) or known.dtype.kind not in "iu":
        raise ValueError(f"expected labels of shape {(len(values),)}, whole numbers, got {known.dtype} {known.shape}")
    if known.min() < 0 or known.max() >= values.shape[1]:
        raise ValueError(f"expected labels from 0 to {values.shape[1] - 1}, got {known.min()} to {known.max()}")
    check_integer("bins", bins, 1)
    return values, known


def _binned(confidence: np.ndarray, hit: np.ndarray, bins: int) -> np.ndarray:
    """(4, bins): mean confidence, accuracy, mean variance of a hit if the confidence is right, number of rows."""
    groups = grouped(confidence, xr.Dataset(), len(confidence), bins, least=2)
    return np.array(
        [
            (some.mean(), hit[places].mean(), np.mean(some * (1 - some)), len(places))
            for places, _ in groups
            for some in [confidence[places]]
        ]
    ).T


def _errors(table: np.ndarray) -> tuple[float, float, float]:
    """Expected calibration error, its expectation for right confidences, and the unbiased mean square."""
    confidence, accuracy, variance, count = table
    share, difference = count / count.sum(), accuracy - confidence
    chance = np.sqrt(2 / np.pi * np.maximum(variance, 0.0) / count)
    square = difference**2 - accuracy * (1 - accuracy) / (count - 1)
    return float(share @ np.abs(difference)), float(share @ chance), float(share @ square)
