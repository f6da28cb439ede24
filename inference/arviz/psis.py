"""Pareto-smoothed importance sampling, equal to ArviZ's, for many observations at once.

ArviZ takes one observation after another, half a millisecond each for 4,000 draws. `psislw` does the same arithmetic
for a chunk of observations, and leaves to ArviZ the few with an irregular tail (such as ties at its beginning).

The largest importance ratios are replaced by quantiles of a generalised Pareto distribution fitted to them (Vehtari,
Simpson, Gelman, Yao & Gabry 2024, JMLR 25(72)), by the estimator of Zhang & Stephens (2009, Technometrics 51(3)) with a
weak prior for a shape near 1/2.
"""

import math

import numpy as np
import xarray as xr

from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz
from posterity.validation import check_finite, check_number, to_numbers

PRIOR_SHAPE, PRIOR_DRAWS = 0.5, 10
PRIOR_SCALE = 3
NEGLIGIBLE = 10 * np.finfo(float).eps
SMALLEST = math.log(np.finfo(float).tiny)


def psislw(log_ratios: np.ndarray, reff: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed log importance weights (N, S), normalised over S, and the shape k-hat of each tail (N,).

    ``log_ratios`` (N, S) are finite; ``reff`` is the effective over the actual number of draws. Memory is about
    N (3 S + 45 sqrt(S / reff) 3) numbers: give a large N in chunks.

    Equal to the installed ArviZ if ArviZ fits a tail. If no tail can be fitted (fewer than 5 draws in it, all equal,
    underflowing against the largest, or nothing like a Pareto tail), the weights stay as they are and k-hat is
    infinite. The tail has 3 sqrt(S / reff) draws, at most S / 5, rounded up in ArviZ 0.23 and down in 1.x: their k-hat
    differs by a few hundredths if that is not a whole number.

    Raises:
        ValueError: if shapes do not match, ratios are masked or not finite real numbers, or ``reff`` is not above 0.
    """
    ratios = to_numbers("log_ratios", log_ratios)
    if ratios.ndim != 2 or 0 in ratios.shape:
        raise ValueError(f"expected log_ratios of shape (N, S), got {ratios.shape}")
    check_finite("log_ratios", ratios)
    reff = check_number("reff", reff, "(0, inf)")
    log_weights = ratios - ratios.max(1, keepdims=True)
    tail = _tail_length(ratios.shape[1], reff)
    k = np.full(len(ratios), np.inf)
    if tail >= 5:
        k = _smooth(log_weights, tail)
        for row in np.flatnonzero(np.isnan(k)):
            smoothed, k[row] = _by_arviz(ratios[row], reff)
            if np.isfinite(smoothed).all() and not np.isnan(k[row]):
                log_weights[row] = smoothed
            else:
                k[row] = np.inf
    return log_weights - np.log(np.exp(log_weights).sum(1, keepdims=True)), k


def _tail_length(draws: int, reff: float) -> int:
    if HAS_INFERENCE_DATA:
        return math.ceil(min(draws / 5, 3 * math.sqrt(draws / reff)))
    return math.floor(3 * math.sqrt(draws / reff) if draws * reff > 225 else draws / 5)


def _by_arviz(ratios: np.ndarray, reff: float) -> tuple[np.ndarray, float]:
    with np.errstate(all="ignore"):
        if HAS_INFERENCE_DATA:
            log_weights, k = arviz().psislw(ratios, reff)
        else:
            arviz()  # gives arrays their ``azstats``
            log_weights, k = xr.DataArray(-ratios, dims="s").azstats.psislw(r_eff=reff, dim="s")
    return np.asarray(log_weights), float(k)


def _smooth(log_weights: np.ndarray, tail: int) -> np.ndarray:
    """Smooth the tails of (N, S), whose largest value is 0, in place, and return k-hat (N,).

    Tails that cannot be fitted (k-hat inf) or are irregular (nan) are not changed.
    """
    count = log_weights.shape[1] - tail
    ranked = np.argpartition(log_weights, count - 1, axis=1)
    cutoff = np.take_along_axis(log_weights, ranked[:, count - 1 : count], 1)
    where = ranked[:, count:]
    values = np.take_along_axis(log_weights, where, 1)
    order = np.argsort(values, axis=1)
    where, values = np.take_along_axis(where, order, 1), np.take_along_axis(values, order, 1)
    start = np.exp(cutoff)
    excess = np.exp(values) - start
    quartile = excess[:, int(tail / 4 + 0.5) - 1]
    k = np.where((values[:, 0] == 0) | (cutoff[:, 0] <= SMALLEST), np.inf, np.nan)
    rows = np.flatnonzero(np.isnan(k) & (values[:, 0] > cutoff[:, 0]) & (quartile > excess[:, 0]))
    with np.errstate(all="ignore"):
        shape, scale = _fit_pareto(excess[rows], quartile[rows, None])
        steps = np.log1p(-np.arange(0.5, tail) / tail)
        unit = np.where(np.abs(shape) < np.finfo(float).eps, -steps, np.expm1(-shape * steps) / shape)
        smooth = np.minimum(np.log(scale * unit + start[rows]), 0)
    good = np.isfinite(smooth).all(1) & (scale[:, 0] > 0) & np.isfinite(shape[:, 0])
    rows = rows[good]
    log_weights[rows[:, None], where[rows]] = smooth[good]
    k[rows] = shape[good, 0]
    return k


def _fit_pareto(excess: np.ndarray, quartile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape and scale, each (N, 1), of generalised Pareto distributions fitted to ascending excesses (N, T)."""
    count = excess.shape[1]
    grid = 30 + int(math.sqrt(count))
    slope = (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (PRIOR_SCALE * quartile) + 1 / excess[:, -1:]
    mean = np.stack([np.log1p(-column[:, None] * excess).mean(1) for column in slope.T], 1)
    profile = count * (np.log(-slope / mean) - mean - 1)
    weight = np.exp(profile - profile.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    weight[weight < NEGLIGIBLE] = 0
    chosen = (slope * weight).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    shape = np.log1p(-chosen * excess).mean(1, keepdims=True)
    return (count * shape + PRIOR_DRAWS * PRIOR_SHAPE) / (count + PRIOR_DRAWS), -shape / chosen
