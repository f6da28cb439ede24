"""The empirical distribution function of PIT values, with a simultaneous band.

A band that contains the curve at each point with 95 % is left somewhere by most correct models. Säilynoja, Bürkner &
Vehtari (2022, "Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and multiple
sample comparison", arXiv:2103.10522) widen pointwise binomial intervals until the whole curve stays inside with the
wanted probability. Here this probability is exact, not simulated: the counts between grid points are multinomial, that
is independent Poisson counts given their sum, so the probability is a chain of convolutions with one Poisson kernel.
"""

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.transform import pit_array
from posterity.validation import check_integer, check_number

BISECTIONS = 18


def pit_ecdf(pit_values: xr.Dataset, *, prob: float = 0.95, points: int | None = None) -> xr.Dataset:
    """ECDF of ``pit`` on a grid z, with the simultaneous band of uniform values: ``ecdf``, ``lower``, ``upper``.

    ``pit_values`` is a result of `pit`; ``prob`` and ``points`` are those of `ecdf_band`. The attribute ``outside``
    counts the grid points at which the curve is outside the band; for a correct model there is any with probability 1 -
    ``prob`` at most.

    Raises:
        ValueError: as `ecdf_band`, and if there is no ``pit`` in [0, 1].
    """
    values = pit_array(pit_values)
    if values.size < 2:
        raise ValueError(f"expected pit of at least 2 observations, got {values.size}")
    band = ecdf_band(values.size, prob=prob, points=points)
    ecdf = np.searchsorted(np.sort(values), band["z"].values, side="right") / values.size
    # The limits and the ECDF are counts over n: half a count of slack absorbs rounding.
    slack = 0.5 / values.size
    outside = (ecdf < band["lower"].values - slack) | (ecdf > band["upper"].values + slack)
    return band.assign(ecdf=("z", ecdf)).assign_attrs(outside=int(outside.sum()))


def ecdf_band(n: int, *, prob: float = 0.95, points: int | None = None) -> xr.Dataset:
    """The band that contains the ECDF of n uniform values at all grid points with probability >= ``prob``.

    The grid is z = i/points for 0 < i < points; ``points`` is n by default, and 100 at most. Returns ``lower`` and
    ``upper`` over "z"; attributes are the ``pointwise`` level of each interval and the ``simultaneous`` probability of
    the band, which exceeds ``prob`` slightly since counts are discrete.

    Raises:
        ValueError: if n or points is not a whole number of 2 or more, or ``prob`` is not in (0, 1).

    >>> band = ecdf_band(250)
    >>> 0.95 <= band.attrs["simultaneous"] < 0.96, round(float((band.upper - band.lower).max()), 3)
    (True, 0.188)
    """
    n = check_integer("n", n, 2)
    check_number("prob", prob, "(0, 1)")
    points = min(n, 100) if points is None else check_integer("points", points, 2)
    z = np.arange(1, points) / points
    # Between the level of one point and that of Bonferroni, the simultaneous probability changes in steps.
    low, high = np.log((1 - prob) / points), np.log(1 - prob)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        inside = _stay_probability(n, points, *_pointwise(n, z, np.exp(middle)))
        low, high = (middle, high) if inside >= prob else (low, middle)
    lower, upper = _pointwise(n, z, np.exp(low))
    attrs = {
        "n": n,
        "prob": prob,
        "pointwise": float(1 - np.exp(low)),
        "simultaneous": float(_stay_probability(n, points, lower, upper)),
    }
    return xr.Dataset({"lower": ("z", lower / n), "upper": ("z", upper / n)}, coords={"z": z}, attrs=attrs)


def _pointwise(n: int, z: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Central binomial intervals of the counts up to each z, with at most alpha/2 on either side of an interval."""
    lower, upper = stats.binom.ppf(0.5 * alpha, n, z), stats.binom.isf(0.5 * alpha, n, z)
    return lower.astype(int), upper.astype(int)


def _stay_probability(n: int, points: int, lower: np.ndarray, upper: np.ndarray) -> float:
    """P(lower_i <= n ECDF(z_i) <= upper_i for all i) for n uniform values."""
    kernel = stats.poisson.pmf(np.arange(n + 1), n / points)
    kernel = kernel[: np.flatnonzero(kernel > 1e-18)[-1] + 1]
    start, state = 0, np.ones(1)  # state[j]: probability of a count of start + j that has never left the band
    for low, high in zip([*lower, n], [*upper, n], strict=True):
        moved = np.convolve(state, kernel)
        wanted = np.arange(low, high + 1) - start
        reached = (wanted >= 0) & (wanted < len(moved))
        state = np.where(reached, moved[np.clip(wanted, 0, len(moved) - 1)], 0.0)
        start = low
    # Conditional on a sum of n.
    return float(state[0] / stats.poisson.pmf(n, n))
