r"""Scores of intervals: their length, plus a penalty for observations outside.

$$S(l, u; y) = (u - l) + \frac{2}{\alpha} (l - y) 1\{y < l\} + \frac{2}{\alpha} (y - u) 1\{y > u\}, \qquad
\alpha = 1 - \text{level}$$

in units of y; lower is better (Winkler 1972; Gneiting & Raftery 2007, eq. 43). For *central* intervals, with
probability $\alpha/2$ outside on either side, the score is proper: on average no interval scores better than that of
the true distribution.

For *highest-density* regions no score is proper: the shortest interval of a given probability is not elicitable
(Brehmer & Gneiting 2021, "Scoring interval forecasts: equal-tailed, shortest, and modal interval", Bernoulli 27). Here
a union of intervals is scored by its total length, plus $2/\alpha$ times the distance from y to the nearest end if y is
outside; for one interval this is the formula above. The score describes the cost of a region. But each of its ends is
optimal with probability $\alpha/2$ beyond it, so for a skewed true distribution the central interval scores better than
the highest-density region, and the optimal set of two intervals leaves out $2 \alpha$. To rank models, use central
intervals, the log score or the CRPS.
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

    - ``kind="central"``: between two quantiles, exact for a mixture. Those of S draws are sample quantiles, with an
      error of about sqrt(alpha / 2 / S) / density: for a level of 0.9 use S of some 1,000. Also returned:
      ``weighted_interval_score`` over "obs", in units of y, the average of these levels and the absolute error of the
      median (Bracher, Ray, Gneiting & Reich 2021, eq. 1), which tends to the CRPS as levels fill (0, 1).
    - ``kind="hdi"``: highest-density regions, only of a mixture, and ``intervals``, their number of intervals. It is
      not a proper score (see the module), and takes some 10 ms for each observation and level.

    `score_summary` and `paired_difference` accept the result.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data.
        y: observations (N,), which ArviZ data hold themselves.
        levels: probabilities of the intervals.
        kind: "central" or "hdi".
        var_name: the observed variable of ArviZ data, if there are several.

    Raises:
        ValueError: if ``levels`` are not in (0, 1) or not different, ``kind`` is unknown, the target is an angle, or
            there is a single draw, and as `pit`.

    >>> draws = np.linspace(0, 10, 11)[:, None]
    >>> result = interval_score(draws, np.array([9.0]), levels=[0.5])  # from 2.5 to 7.5, missed by 1.5
    >>> result.interval_score.values, result.length.values
    (array([[11.]]), array([[5.]]))
    """
    wanted = check_different_levels(levels)
    check_choice("kind", kind, KINDS)
    data = read(source, y, var_name)
    cut = regions(data, wanted, kind)
    columns = {
        "interval_score": cut.length + 2 / (1 - wanted)[:, None] * cut.distance,
        "length": cut.length,
        "covered": (cut.distance == 0).astype(float),
    }
    if kind == "hdi":
        columns["intervals"] = cut.intervals
    result = over_levels(data, columns, wanted, kind=kind, num_draws=data.num_draws)
    if kind == "central":
        weights = 0.5 * (1 - wanted)
        total = weights @ columns["interval_score"] + 0.5 * np.abs(data.observed - cut.median)
        result = result.merge(data.dataset({"weighted_interval_score": total / (len(wanted) + 0.5)}))
    return result


class Cut(NamedTuple):
    """Regions of each level: length, distance of y (0 inside) and number of intervals, each (L, N); the median (N,).

    The median is nan for highest-density regions.
    """

    length: np.ndarray
    distance: np.ndarray
    intervals: np.ndarray
    median: np.ndarray


def regions(data: Source, levels: np.ndarray, kind: str) -> Cut:
    """The regions of each level, and the place of y."""
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
