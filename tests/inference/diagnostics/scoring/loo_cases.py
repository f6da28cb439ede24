"""Log likelihoods that tests of leave-one-out share."""

import math

import numpy as np
import pytest
from scipy import stats

from posterity.inference.arviz import from_arrays, from_groups, group

NOISE, PRIOR = 1.0, 3.0


ARVIZ_WARNS = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution")


def observations(n: int = 20, outlier: float | None = None) -> np.ndarray:
    y = np.random.default_rng(5).normal(0.5, NOISE, n)
    if outlier is not None:
        y[3] = outlier
    return y


def left_out(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of y_n given all other y: y ~ N(mean, NOISE²) and mean ~ N(0, PRIOR²)."""
    precision = 1 / PRIOR**2 + (len(y) - 1) / NOISE**2
    return (y.sum() - y) / NOISE**2 / precision, np.full(len(y), math.sqrt(NOISE**2 + 1 / precision))


def exact(y: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(y, *left_out(y))


def fitted(y: np.ndarray, seed: int = 0, draws: int = 1000) -> object:
    """ArviZ data of draws from the exact posterior in 4 chains; the rows are called 100 and up."""
    rng = np.random.default_rng(seed)
    precision = 1 / PRIOR**2 + len(y) / NOISE**2
    mean = rng.normal(y.sum() / NOISE**2 / precision, precision**-0.5, (4, draws, 1))
    return from_arrays(
        posterior={"mean": mean[..., 0]},
        log_likelihood={"y": stats.norm.logpdf(y, mean, NOISE)},
        posterior_predictive={"y": rng.normal(mean, NOISE, (4, draws, len(y)))},
        observed_data={"y": y},
        dims={"y": ["row"]},
        coords={"row": np.arange(100, 100 + len(y))},
    )


def changed(**groups) -> object:
    """The fitted data with other groups."""
    data = fitted(observations())
    kept = {name: group(data, name) for name in ("posterior", "log_likelihood", "observed_data")}
    return from_groups({name: values for name, values in {**kept, **groups}.items() if values is not None})


LOG_LIKELIHOOD = group(fitted(observations()), "log_likelihood")
