"""Scores of intervals: short is good, and to miss costs by how far.

    S(l, u; y) = (u - l) + 2/alpha (l - y) 1{y < l} + 2/alpha (y - u) 1{y > u},     alpha = 1 - level

in units of y, lower is better (Winkler 1972; Gneiting & Raftery 2007, eq. 43). Of *central* intervals, which leave out
alpha/2 on either side, it is proper: on average none does better than that of the true distribution.

Of *highest-density* regions it is not, and no score is: the shortest interval of a given probability is not elicitable
(Brehmer & Gneiting 2021, "Scoring interval forecasts: equal-tailed, shortest, and modal interval", Bernoulli 27).
Here a union of intervals is scored by its total length, plus 2/alpha times the distance from y to the nearest end
where y is outside; of one interval that is the formula above. It describes what a set costs. But each of its ends is
best placed with alpha/2 beyond it, so that on skewed truth the central interval beats the region of highest density,
and a set of two intervals is best off with 2 alpha outside. To rank models take central intervals, the log score or
the CRPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.levels import check_different_levels, over_levels
from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import check_choice

KINDS = ("central", "hdi")


def interval_score(
    source: object,
    y: Any = None,
    *,
    levels: Sequence[float] = (0.5, 0.9),
    kind: str = "central",
    var_name: str | None = None,
) -> xr.Dataset:
    """``interval_score`` and ``length``, in units of y, and ``covered`` (0 or 1), over ("level", "obs").

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), draws (S, N) with ``y``, or ArviZ data.

    - ``kind="central"``: between two quantiles, exact for a mixture. Those of S draws are sample quantiles, whose ends
      are good to about sqrt(alpha / 2 / S) / density: at a level of 0.9 take S of some 1,000. Also returned:
      ``weighted_interval_score`` over "obs", in units of y, the average of these levels and the absolute error of the
      median (Bracher, Ray, Gneiting & Reich 2021, eq. 1), which tends to the CRPS as levels fill (0, 1).
    - ``kind="hdi"``: regions of highest density, of a mixture alone, and ``intervals``, how many there are. It is not a
      proper score (see the module), and takes some 10 ms for each observation and level.

    Takes its place in `score_summary` and `paired_difference`. Raises ``ValueError`` for levels outside (0, 1), or one
    given twice, an unknown kind, angles, a single draw, and as `pit`.

    >>> draws = np.linspace(0, 10, 11)[:, None]
    >>> result = interval_score(draws, np.array([9.0]), levels=[0.5])  # from 2.5 to 7.5, missed by 1.5
    >>> result.interval_score.values, result.length.values
    (array([[11.]]), array([[5.]]))
    """
    wanted = check_different_levels(levels)
    check_choice("kind", kind, KINDS)
    data = read(source, y, var_name)
    cut = regions(data, wanted, kind)
    found = {
        "interval_score": cut.length + 2 / (1 - wanted)[:, None] * cut.distance,
        "length": cut.length,
        "covered": (cut.distance == 0).astype(float),
    }
    if kind == "hdi":
        found["intervals"] = cut.intervals
    result = over_levels(data, found, wanted, kind=kind, num_draws=data.num_draws)
    if kind == "central":
        weights = 0.5 * (1 - wanted)
        total = weights @ found["interval_score"] + 0.5 * np.abs(data.observed - cut.median)
        result = result.merge(data.dataset({"weighted_interval_score": total / (len(wanted) + 0.5)}))
    return result


class Cut(NamedTuple):
    """Of regions: length, y's distance (0 inside) and number of intervals, each (L, N), and the median (N,).

    The median is nan of regions of highest density.
    """

    length: np.ndarray
    distance: np.ndarray
    intervals: np.ndarray
    median: np.ndarray


def regions(data: Source, levels: np.ndarray, kind: str) -> Cut:
    """The regions of each level."""
    if kind == "hdi":
        source = require_mixture(data, "kind='hdi'")
        source.require_line()
        parts = [source.highest_density(float(level)) for level in levels]
        length, distance, intervals = (np.stack(column) for column in zip(*parts, strict=True))
        return Cut(length, distance, intervals, np.full(length.shape[1], np.nan))
    data.require_line()
    data.require_two_draws()
    *ends, median = data.quantiles(np.concatenate([0.5 * (1 - levels), 0.5 * (1 + levels), [0.5]]))
    lower, upper = np.split(np.stack(ends), 2)
    distance = np.maximum(np.maximum(lower - data.observed, data.observed - upper), 0.0)
    return Cut(upper - lower, distance, np.ones_like(lower), median)
