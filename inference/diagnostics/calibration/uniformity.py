"""Five tests of the uniformity of PIT values, which see different faults.

- ``"ks"``, Kolmogorov-Smirnov: the largest distance between the distribution functions. Sees a shift of the whole, and
  little of the tails. The p-value is exact (`scipy.stats.kstest`).
- ``"ad"``, Anderson-Darling: the squared distance in units of its error at each point, so the tails count as much. The
  p-value is that of Marsaglia & Marsaglia 2004 (J. Stat. Softw. 9(2)), for a known distribution
  (`scipy.stats.anderson` fits the distribution, and never rejects).
- ``"chi2"``, Pearson: counts in bins of equal probability. Sees a gap or a peak anywhere, and weights of components; it
  ignores the order of the bins, so it sees less of a slope or a curvature.
- ``"berkowitz"``: likelihood ratio of the normal scores z = Phi^-1(u) against a normal distribution of any mean and
  standard deviation with correlated neighbours (Berkowitz 2001, J. Bus. Econ. Stat. 19, 465-474; 3 degrees of
  freedom). The most powerful test for wrong widths and shifts, blind to any fault that leaves these two and the
  correlation unchanged. The order of the observations matters: use the order of time, or one unrelated to y.
- ``"pot_c"``: each ordered value against its own beta distribution, the n p-values combined by Cauchy's distribution,
  which allows any dependence (Tesso & Vehtari 2026, "LOO-PIT predictive model checking", arXiv:2603.02928, eq. 24,
  after Liu & Xie 2020, JASA 115, 393-402). p-values above 1/2 count as 1/2; otherwise a single value at its expected
  place would outweigh all others. Use it for dependent values, such as those of leave-one-out or of fitted data, for
  which the other tests have wrong levels. The published p-value, which is ArviZ's, is 1/2 at most and rejects 6.5 % of
  independent uniform samples at the 5 % level, since order statistics are more dependent than Cauchy's approximation
  allows. For independent values it is therefore corrected by simulation; for values marked as dependent it is the
  published one.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import erfc, ndtri

from posterity.inference.diagnostics.calibration.transform import pit_array
from posterity.validation import check_integer

TESTS = ("ks", "ad", "chi2", "berkowitz", "pot_c")
LEAST = 10
"""Fewest values, since the distributions of the statistics are those of large samples."""

LEAST_BERKOWITZ = 20
"""Fewest values for Berkowitz's test, which with fewer rejects 7 to 8 % at the 5 % level."""

BINS = 20
PER_BIN = 5
"""Expected values in a bin, below which counts are too far from the normal limit of chi2."""

PROBABILITIES = (1e-4, 1e-3, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
TOO_OFTEN = (1.0, 1.1, 1.205, 1.244, 1.266, 1.302, 1.325, 1.356, 1.401, 1.452, 1.517, 1.603, 1.714, 1.857, 2.01, 2.0)
"""Frequency of published p-values of pot_c below each of `PROBABILITIES`, over the nominal one.

From 600,000 simulations of 200 independent values, with errors below 2 % from 0.01 on. The ratio is the same for up to
10,000 values; for few values it approaches 1 in proportion to n/(n + 3.3), within 2 % for 10 and 20 values and p below
0.8."""


def uniformity_test(pit_values: xr.Dataset, test: str | Sequence[str] = "ks", *, bins: int | None = None) -> xr.Dataset:
    """``statistic`` and ``p_value`` of a test of the uniformity of ``pit``, and the number ``n`` of values.

    ``pit_values`` is a result of `pit` or `loo_pit`. ``test`` is "ks", "ad", "chi2", "berkowitz" or "pot_c", for
    scalars, or a list of them, for values over "test"; the module says which faults each sees. ``bins`` is the number
    of bins of chi2, by default 20, or as many as have 5 expected values each.

    Raises:
        ValueError: if a test is unknown, there are fewer than 10 values (20 for berkowitz), values are not in [0, 1],
            bins have fewer than 5 expected values, or values that depend on each other are given to a test other than
            pot_c.

    >>> values = xr.Dataset({"pit": ("obs", (np.arange(100) + 0.5) / 100)})
    >>> round(float(uniformity_test(values).statistic), 6), int(uniformity_test(values).n)
    (0.005, 100)
    >>> uniformity_test(values, ["ad", "chi2", "pot_c"]).p_value.values.round(2)
    array([1., 1., 1.])
    """
    if not isinstance(test, str) and not (isinstance(test, list | tuple) and all(isinstance(one, str) for one in test)):
        raise ValueError(f"expected test to be a name or a list of names, got {type(test).__name__}")
    names = [test] if isinstance(test, str) else list(test)
    unknown = [name for name in names if name not in TESTS]
    if unknown or not names:
        raise ValueError(f"expected test to be one or more of {', '.join(TESTS)}, got {unknown or names}")
    values = pit_array(pit_values)
    if len(values) < LEAST:
        raise ValueError(f"expected at least {LEAST} values for a test of uniformity, got {len(values)}")
    if "berkowitz" in names and len(values) < LEAST_BERKOWITZ:
        raise ValueError(f"expected at least {LEAST_BERKOWITZ} values for Berkowitz's test, got {len(values)}")
    wrong = [name for name in names if name != "pot_c"]
    if pit_values.attrs.get("dependent") and wrong:
        raise ValueError(f"expected test 'pot_c' for values that depend on each other (leave-one-out), got {wrong}")
    scores = _normal_scores(pit_values, values)
    tests = {
        "ks": lambda: _kolmogorov_smirnov(values),
        "ad": lambda: _anderson_darling(values, scores),
        "chi2": lambda: _chi2(values, bins),
        "berkowitz": lambda: _berkowitz(scores),
        "pot_c": lambda: _pot_c(values, bool(pit_values.attrs.get("dependent"))),
    }
    statistic, p_value = np.array([tests[name]() for name in names]).T
    if isinstance(test, str):
        scalars = {"statistic": statistic[0], "p_value": p_value[0], "n": values.size}
        return xr.Dataset(scalars, attrs={"test": test})
    columns = {"statistic": ("test", statistic), "p_value": ("test", p_value), "n": values.size}
    return xr.Dataset(columns, coords={"test": names})


def _normal_scores(pit_values: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Phi^-1(u), from the smaller tail if the dataset has both."""
    upper = pit_values["pit_sf"].values.reshape(-1) if "pit_sf" in pit_values else 1 - values
    tail = np.maximum(np.minimum(values, upper), np.finfo(float).tiny)
    return np.where(values <= upper, ndtri(tail), -ndtri(tail))


def _kolmogorov_smirnov(values: np.ndarray) -> tuple[float, float]:
    result = stats.kstest(values, "uniform")
    return float(result.statistic), float(result.pvalue)


def _anderson_darling(values: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    n, ordered = len(values), np.sort(scores)
    weight = 2 * np.arange(1, n + 1) - 1
    # Normal scores distinguish 1 - 1e-20 from 1.
    statistic = -n - float(np.sum(weight * (stats.norm.logcdf(ordered) + stats.norm.logsf(ordered[::-1])))) / n
    return statistic, anderson_darling_sf(statistic, n)


def anderson_darling_sf(z: float, n: int) -> float:
    """P(A² > z) of n uniform values (Marsaglia & Marsaglia 2004); far out sqrt(3) erfc(sqrt(z)) (Zolotarev 1961)."""
    if z > 8:
        return float(np.sqrt(3) * erfc(np.sqrt(z)))
    if z < 2:
        inner = 2.00012 + (0.247105 - (0.0649821 - (0.0347962 - (0.011672 - 0.00168691 * z) * z) * z) * z) * z
        limit = np.exp(-1.2337141 / z) / np.sqrt(z) * inner if z > 0 else 0.0
    else:
        inner = 1.0776 - (2.30695 - (0.43424 - (0.082433 - (0.008056 - 0.0003146 * z) * z) * z) * z) * z
        limit = np.exp(-np.exp(inner))
    return float(np.clip(1 - limit - _of_few(n, limit), 0.0, 1.0))


def _of_few(n: int, limit: float) -> float:
    """Distribution function of n values less that of infinitely many."""
    edge = 0.01265 + 0.1757 / n
    if limit < edge:
        t = limit / edge
        t = np.sqrt(t) * (1 - t) * (49 * t - 102)
        return float(t * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n)
    if limit < 0.8:
        t = (limit - edge) / (0.8 - edge)
        t = -0.00022633 + (6.54034 - (14.6538 - (14.458 - (8.259 - 1.91864 * t) * t) * t) * t) * t
        return float(t * (0.04213 + 0.01365 / n) / n)
    x = limit
    return float((-130.2137 + (745.2337 - (1705.091 - (1950.646 - (1116.360 - 255.7844 * x) * x) * x) * x) * x) / n)


def _chi2(values: np.ndarray, bins: int | None) -> tuple[float, float]:
    if bins is None:
        bins = min(BINS, len(values) // PER_BIN)
    elif check_integer("bins", bins) < 2 or len(values) < bins * PER_BIN:
        raise ValueError(f"expected from 2 to {len(values) // PER_BIN} bins for {len(values)} values, got {bins}")
    count = np.histogram(values, bins, (0.0, 1.0))[0]
    result = stats.chisquare(count)
    return float(result.statistic), float(result.pvalue)


def _berkowitz(z: np.ndarray) -> tuple[float, float]:
    """Twice the log likelihood ratio of a stationary first-order autoregression to independent N(0, 1)."""
    n = len(z)
    now, before = z[1:], z[:-1]

    def fitted(rho: float) -> float:
        # Given rho, mean and variance have a closed form: z_1 has variance s²/(1 - rho²), the others s² given the last.
        first = 1 - rho**2
        mean = (first * z[0] + (1 - rho) * np.sum(now - rho * before)) / (first + (n - 1) * (1 - rho) ** 2)
        squares = first * (z[0] - mean) ** 2 + np.sum((now - mean - rho * (before - mean)) ** 2)
        return float(-0.5 * n * np.log(2 * np.pi * squares / n) + 0.5 * np.log(first) - 0.5 * n)

    if not np.ptp(z) > 0:
        return np.inf, 0.0  # the likelihood of a width of 0 is unbounded
    limit = 0.999
    best = minimize_scalar(lambda rho: -fitted(rho), bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6})
    null = -0.5 * n * np.log(2 * np.pi) - 0.5 * np.sum(z**2)
    statistic = max(0.0, 2 * (-float(best.fun) - float(null)))
    return statistic, float(stats.chi2.sf(statistic, 3))


def _pot_c(values: np.ndarray, dependent: bool) -> tuple[float, float]:
    n, ordered = len(values), np.sort(values)
    rank = np.arange(1, n + 1)
    each = 2 * np.minimum(stats.beta.cdf(ordered, rank, n - rank + 1), stats.beta.sf(ordered, rank, n - rank + 1))
    statistic, published = cauchy_combination(each)
    if dependent:
        return statistic, published
    too_often = np.append(1 + (np.array(TOO_OFTEN[:-1]) - 1) * n / (n + 3.3), TOO_OFTEN[-1])
    factor = np.interp(np.log(max(published, np.finfo(float).tiny)), np.log(PROBABILITIES), too_often)
    return statistic, float(min(published * factor, 1.0))


def cauchy_combination(p_values: np.ndarray) -> tuple[float, float]:
    """Mean of tan(pi (1/2 - p)), and its p-value, for tests that may depend on each other (Liu & Xie 2020).

    p-values above 1/2 count as 1/2, so that a p-value of 1 does not cancel the others.
    """
    # tan(pi (1/2 - p)) is 1/(pi p) for p so small that the angle is rounded to a right angle.
    small = p_values < 1e-8
    angles = np.pi * (0.5 - np.where(small, 0.5, np.minimum(p_values, 0.5)))
    cauchy = np.where(small, 1 / (np.pi * np.maximum(p_values, 1e-300)), np.tan(angles))
    statistic = float(cauchy.mean())
    return statistic, float(stats.cauchy.sf(statistic))
