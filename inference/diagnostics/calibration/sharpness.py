"""How narrow predictives are, and by how much their coverage is off: the two halves of "sharp, but calibrated".

Of two calibrated models the sharper one is better (Gneiting, Balabdaoui & Raftery 2007). Sharpness needs no y and
says nothing of whether it is deserved; the calibration error needs y and is blind to sharpness: a model that ignores x
may have none. Proper scores (`posterity.inference.diagnostics.scoring.scores`) weigh both.
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
from posterity.validation import check_choice, check_finite, check_integer, to_array, to_numbers


def sharpness(
    source: object,
    y: Any = None,
    *,
    levels: Sequence[float] = (0.5, 0.9),
    kind: str = "central",
    var_name: str | None = None,
) -> xr.Dataset:
    """``width`` of the regions over ("level", "obs") and ``sd`` over "obs", in units of y, and their means.

    ``source`` is a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data; y is not needed, and only checked where
    it is given. ``kind`` is that of `interval_score`: of ``"hdi"`` the width is the length of all intervals together.

    ``mean_width`` over "level", ``mean_sd``, and ``rms_sd``, the root of the mean variance. Where a predictive has no
    finite variance ``sd`` is not finite, with a warning; its widths are.
    Raises ``ValueError`` for levels outside (0, 1), an unknown kind, a single draw, and as `pit`.

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
    endless = int((~np.isfinite(sd)).sum())
    if endless:
        warnings.warn(
            f"sd is not finite for {endless} of {sd.size} predictives, which have no variance; compare their widths",
            stacklevel=2,
        )
    found = over_levels(data, {"width": widths}, wanted, kind=kind, num_draws=data.num_draws)
    found = found.merge(data.dataset({"sd": sd}))
    means = {"mean_width": ("level", widths.mean(1)), "mean_sd": sd.mean(), "rms_sd": np.sqrt(np.mean(sd**2))}
    return found.assign(means)


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
    """By how much the coverage c of regions differs from their level p, in one number; 0 is best.

    ``source`` is a result of `coverage` (by group, the errors are by group), or what `coverage` takes, to which the
    other arguments go. Averages are over the levels.

    - ``mean_absolute``: of |c - p|, the area between coverage and diagonal (Kuleshov, Fenner & Ermon 2018 square it);
      ``root_mean_square``; ``maximum``.
    - ``mean_difference``: of c - p. Below zero the regions are too small: the model is overconfident.
    - ``mean_absolute_by_chance``: what a right model would show on average with this number of independent
      observations. An error no larger than that is none. Exact, by the mean deviation of a binomial count (de Moivre;
      Diaconis & Zabell 1991, eq. 1.1).
    - ``mean_square_unbiased``: of (c - p)² less the variance c (1 - c)/(n - 1) that chance adds; 0 on average for a
      right model, so it may come out negative. nan for n = 1.

    Raises ``ValueError`` for a Dataset without coverage, and as `coverage`.

    >>> found = coverage(np.tile(np.linspace(-1, 1, 99)[:, None], 50), np.zeros(50), levels=[0.5])  # y in the middle
    >>> error = calibration_error(found)
    >>> float(error.mean_difference), round(float(error.mean_absolute_by_chance), 3)
    (0.5, 0.056)
    """
    if isinstance(source, xr.Dataset):
        if "coverage" not in source or "level" not in source.coords or "n" not in source or y is not None:
            raise ValueError(
                f"expected a Dataset with 'coverage', 'n' and levels, as coverage() returns, and no y, got "
                f"{list(source.data_vars)}"
            )
        found = source
    else:
        found = coverage(source, y, levels=levels, kind=kind, draws=draws, var_name=var_name, seed=seed)
    share, level = found["coverage"], found["level"]
    n = found["n"].broadcast_like(share)
    difference = share - level
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = share * (1 - share) / (n - 1).where(n > 1)
    # E|X - np| of a binomial X is 2 m (1 - p) P(X = m), with m the least whole number above np.
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
            "n": found["n"],
        },
        attrs=found.attrs,
    )


def class_calibration_error(probabilities: Any, labels: Any, *, bins: int = 15) -> xr.Dataset:
    """Are classes right as often as their probabilities say? Expected calibration error, and what chance makes of it.

    ``probabilities`` (N, C) of C >= 2 classes, rows that sum to one, and ``labels`` (N,), whole numbers from 0.
    (A function by itself: an array (N, C) cannot be told from draws (S, N).)

    The highest probability of each row, its ``confidence``, is compared with how often that class is right, its
    ``accuracy``, in ``bins`` bins of as many rows each (Naeini, Cooper & Hauskrecht 2015; equal ties stay together, so
    there may be fewer bins): ``confidence``, ``accuracy`` and ``count`` over "bin". Then, with shares w of the rows,

    - ``ece``: sum of w |accuracy - confidence|;
    - ``ece_by_chance``: what confidences that are right would show on average, E|error| of each bin by its normal
      limit; an ``ece`` no larger than that is none;
    - ``mean_square_unbiased``: sum of w ((accuracy - confidence)² - accuracy (1 - accuracy)/(count - 1)), without the
      bias that chance adds (Kumar, Liang & Ma 2019, arXiv:1909.10155, section 4); it may come out negative;
    - ``classwise_ece`` and ``classwise_ece_by_chance``: the same of every class's probability against its frequency,
      averaged over the classes (Kull et al. 2019, arXiv:1910.12656); a model may be right at the top alone.

    Within a bin errors of opposite sign cancel: with few bins the error is underestimated, with many it is chance.
    Raises ``ValueError`` for other shapes, probabilities that are no real numbers, rows that do not sum to one, labels
    beyond the classes, ``bins`` below 1 or no whole number, or bins of one row.

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
    """(4, bins): mean confidence, accuracy, mean variance of a hit if the confidence is right, and rows."""
    groups = grouped(confidence, xr.Dataset(), len(confidence), bins, least=2)
    return np.array(
        [
            (some.mean(), hit[places].mean(), np.mean(some * (1 - some)), len(places))
            for places, _ in groups
            for some in [confidence[places]]
        ]
    ).T


def _errors(table: np.ndarray) -> tuple[float, float, float]:
    """Expected calibration error, that of chance, and the unbiased mean square."""
    confidence, accuracy, variance, count = table
    share, difference = count / count.sum(), accuracy - confidence
    chance = np.sqrt(2 / np.pi * np.maximum(variance, 0.0) / count)
    square = difference**2 - accuracy * (1 - accuracy) / (count - 1)
    return float(share @ np.abs(difference)), float(share @ chance), float(share @ square)
