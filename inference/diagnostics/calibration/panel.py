"""All tests of calibration together, and the fault that they name.

No single test sees every fault. Of two components three widths apart and 300 observations, widths that are 20 % too
small are seen by the tests of widths and regions, and hardly by Kolmogorov-Smirnov. Weights that are wrong by 0.1 are
seen by the tests of weights and of the whole distribution, and hardly by those of widths and regions. A single normal
with the right mean and variance is seen only by tests of the shape: its pulls have width 1, and its one component is
where it should be. So the panel runs all tests, lists which test sees what, and names the fault.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats
from scipy.special import gammaln

from posterity.inference.diagnostics.calibration.mixture_tests import FAULTS, mixture_tests
from posterity.inference.diagnostics.calibration.residuals import gaussianised
from posterity.inference.diagnostics.calibration.transform import pit
from posterity.inference.diagnostics.calibration.uniformity import (
    LEAST_BERKOWITZ,
    TESTS,
    cauchy_combination,
    uniformity_test,
)
from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import check_number, check_seed

SEES = {
    "pull_mean": "predictions that are all too high or too low",
    "pull_width": "predicted errors that are all too small or too large",
    "ks": "a shift of the whole distribution",
    "ad": "a shift, and tails that are too light or too heavy",
    "chi2": "a peak or a gap anywhere: another shape",
    "berkowitz": "width or place of the whole, correlated neighbours",
    "pot_c": "single values that are too far out, or too close",
    "hdi": "values between the peaks, or where the density is low",
    "component_width": "components that are too narrow or too wide",
    "component_shift": "components at the wrong place",
    "component_weight": "components that come up too often or too rarely",
}
PROBABILITIES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
TOO_OFTEN = (1.0, 1.0, 1.1, 1.18, 1.2, 1.24, 1.32, 1.44, 2.0)
"""Frequency of combined p-values below each of `PROBABILITIES`, over the nominal one, for a right model.

From 5,000 simulations of 300 observations: between the frequencies of the eleven tests of two components and of the
seven tests of draws, within 6 % of both from 0.05 to 0.3, and within the errors of the simulations (7 % at 0.05, 16 %
at 0.01) below. Without this correction, 6.0 and 5.8 % of p-values are below 0.05."""
WORDS = {
    "component_width": "the widths of components are wrong",
    "component_shift": "the places of components are wrong",
    "component_weight": "the weights of components are wrong",
    "pull_mean": "the predictions are too high or too low",
    "pull_width": "the predicted errors are wrong",
    "shape": "the shape is wrong, such as one peak for two",
}


def calibration_tests(
    source: object, y: Any = None, *, level: float = 0.05, var_name: str | None = None, seed: int = 0
) -> xr.Dataset:
    """``statistic`` and ``p_value`` of every test that the source allows, over "test", and the fault that they name.

    From draws these are pull_mean and pull_width (gaussianised pulls against N(0, 1): z, and chi2 with n - 1 degrees of
    freedom, both exact) and the five tests of `uniformity_test`. From mixtures these are also hdi (Kolmogorov-Smirnov
    of the highest-density levels), and component_width, component_shift and component_weight (`mixture_tests`, jointly
    for all components). The coordinate ``sees`` says which faults a test sees.

    Attributes: ``p_value`` of all tests together, by Cauchy combination (Liu & Xie 2020, JASA 115, 393-402), corrected
    by simulation for the dependence of these tests; ``fault``, the name of the test that saw the fault, "shape" if only
    tests of the whole distribution did, or "none", which a right model has with probability 1 - ``level``; ``verdict``,
    the fault in words.

    A fault is named if all tests together reject. For a mixture the component tests come first, since a fault of
    components is also one of the whole; of several that reject, the one whose repair gains most likelihood is named, on
    2^18 component densities at most. For draws and single components the fault is the mean or the width of the pulls or
    the shape, whichever has the smallest p-value; the p-value of the shape is that of the pulls less their own mean and
    width (Anderson & Darling with both fitted).

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data.
        y: observations (N,), which ArviZ data hold themselves.
        level: probability at which a right model is rejected.
        var_name: the observed variable of ArviZ data, if there are several.
        seed: seed of random ranks and simulated scores.

    Raises:
        ValueError: if ``level`` is not in (0, 1), or there are fewer than 10 observations, and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> model = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(1.0)).expand([500])
    >>> y = model.icdf(torch.rand(500, generator=torch.Generator().manual_seed(1)))
    >>> calibration_tests(model, y).attrs["fault"], calibration_tests(model, y + 0.5).attrs["fault"]
    ('none', 'component_shift')
    """
    check_number("level", level, "(0, 1)")
    seed = check_seed(seed)
    data = read(source, y, var_name)
    values = pit(data, seed=seed)
    z = gaussianised(values["pit"].values, values["pit_sf"].values).reshape(-1)
    tests = [name for name in TESTS if name != "berkowitz" or len(z) >= LEAST_BERKOWITZ]
    whole = uniformity_test(values, tests)
    results = _tests_of_pulls(z) | {
        name: (float(whole["statistic"].sel(test=name)), float(whole["p_value"].sel(test=name))) for name in tests
    }
    if data.has_density:
        results |= _tests_of_mixture(data, seed)
    names = [name for name in SEES if name in results]
    statistic, p_value = np.array([results[name] for name in names]).T
    together = _together(p_value)
    fault = "none"
    if together < level:
        fault = _fault(data, z, dict(zip(names, p_value, strict=True)), level, seed)
    verdict = WORDS[fault] if fault != "none" else f"no fault is seen at the {level:.0%} level"
    return xr.Dataset(
        {"statistic": ("test", statistic), "p_value": ("test", p_value)},
        coords={"test": names, "sees": ("test", [SEES[name] for name in names])},
        attrs={"n": len(z), "level": level, "p_value": together, "fault": fault, "verdict": verdict, "seed": seed},
    )


def _together(p_values: np.ndarray) -> float:
    """p-value of all tests together, 1 at most."""
    published = cauchy_combination(p_values)[1]
    return float(min(published * np.interp(published, PROBABILITIES, TOO_OFTEN), 1.0))


def _tests_of_pulls(z: np.ndarray) -> dict[str, tuple[float, float]]:
    """Statistics and p-values of mean and width against those of N(0, 1); both tests are exact."""
    n = len(z)
    mean = float(z.mean() * np.sqrt(n))
    squares = float(((z - z.mean()) ** 2).sum())
    width = 2 * min(stats.chi2.cdf(squares, n - 1), stats.chi2.sf(squares, n - 1))
    return {
        "pull_mean": (mean, float(2 * stats.norm.sf(abs(mean)))),
        "pull_width": (float(np.sqrt(squares / (n - 1))), float(min(width, 1.0))),
    }


def _tests_of_mixture(data: Source, seed: int) -> dict[str, tuple[float, float]]:
    """Statistics and p-values of the highest-density levels, and of the components."""
    from posterity.inference.diagnostics.sources.mixture_scores import has_shape

    level = uniformity_test(pit(data, kind="hdi", seed=seed), "ks")
    results = {"hdi": (float(level["statistic"]), float(level["p_value"]))}
    if not has_shape(require_mixture(data, "mixture tests").mixture):
        return results
    components = mixture_tests(data, seed=seed)
    for name in FAULTS:
        one = components.sel(fault=name)
        if not np.isnan(one["joint"]):
            results[f"component_{name}"] = (float(one["joint"]), float(one["joint_p_value"]))
    return results


def _fault(data: Source, z: np.ndarray, p_value: dict[str, float], level: float, seed: int) -> str:
    """Name of the fault, given that all tests together reject."""
    if "component_weight" not in p_value:  # draws, or a single component
        return _fault_of_the_whole(z, p_value, level)
    components = [name for name in FAULTS if p_value.get(f"component_{name}", 1.0) < level]
    if components:
        return f"component_{components[0] if len(components) == 1 else _likeliest(data, components, seed)}"
    rejected = [name for name in ("pull_mean", "pull_width") if p_value[name] < level]
    return min(rejected, key=lambda name: p_value[name], default="shape")


def _likeliest(data: Source, faults: list[str], seed: int) -> str:
    """The fault whose repair gains most likelihood; of gross faults, the score test of a wrong kind may be largest."""
    from posterity.inference.diagnostics.sources.mixture_gains import likelihood_ratios

    gains = likelihood_ratios(require_mixture(data, "mixture tests"), faults, seed)
    return min(gains, key=lambda name: np.nan_to_num(_log_chi2_sf(*gains[name])))


def _fault_of_the_whole(z: np.ndarray, p_value: dict[str, float], level: float) -> str:
    """Mean or width of the pulls, or the shape, whichever has the smallest p-value."""
    squares, n = float(((z - z.mean()) ** 2).sum()), len(z)
    if np.ptp(z) == 0:  # all pulls are at the bound of ±37.5
        return "component_shift" if "component_shift" in p_value else "pull_mean"
    tails = stats.chi2.logcdf(squares, n - 1), _log_chi2_sf(squares, n - 1)
    log_p = {
        "pull_mean": np.log(2) + stats.norm.logsf(abs(z.mean()) * np.sqrt(n)),
        "pull_width": min(np.log(2) + min(tails), 0.0),
        "shape": _log_p_of_normality(z),
    }
    fault = min(log_p, key=lambda name: log_p[name])
    if log_p[fault] >= np.log(level):
        return "shape"
    component = {"pull_mean": "component_shift", "pull_width": "component_width"}.get(fault, "")
    return component if p_value.get(component, 1.0) < level else fault


def _log_chi2_sf(value: float, freedom: int) -> float:
    """log P(chi2 > value), also if the probability underflows."""
    log_p = float(stats.chi2.logsf(value, freedom))
    if log_p > -600 or np.isnan(value):
        return log_p
    half = 0.5 * freedom - 1  # Gamma(a, x) = x^(a - 1) e^-x (1 + O(a/x))
    return float(half * np.log(0.5 * value) - 0.5 * value - gammaln(half + 1))


def _log_p_of_normality(z: np.ndarray) -> float:
    """log p of the Anderson-Darling test with mean and width fitted: D'Agostino & Stephens 1986, table 4.9.

    Beyond the end of the table, at A* = 13, log p is extrapolated as a straight line.
    """
    n, width = len(z), z.std(ddof=1)
    if np.ptp(z) == 0 or not width > 0:
        return 0.0
    ordered = np.sort((z - z.mean()) / width)
    terms = (2 * np.arange(1, n + 1) - 1) * (stats.norm.logcdf(ordered) + stats.norm.logsf(ordered[::-1]))
    a = (-n - float(terms.sum()) / n) * (1 + 0.75 / n + 2.25 / n**2)
    if a >= 0.6:
        end = min(a, 13.0)
        return 1.2937 - 5.709 * end + 0.0186 * end**2 - 5.2254 * (a - end)
    if a > 0.34:
        return 0.9177 - 4.279 * a - 1.38 * a**2
    below = -8.318 + 42.796 * a - 59.938 * a**2 if a > 0.2 else -13.436 + 101.14 * a - 223.73 * a**2
    return float(np.log1p(-np.exp(below)))
