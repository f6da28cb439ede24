r"""Proper scores of several targets together, which also judge their dependence.

$$\text{energy: } E|Y - y| - \tfrac12 E|Y - Y'| \qquad
\text{variogram: } \sum_{ij} w_{ij} \left( |y_i - y_j|^p - E|Y_i - Y_j|^p \right)^2$$

(Gneiting & Raftery 2007, eq. 22; Scheuerer & Hamill 2015, eq. 14.) Lower is better. The energy score, in units of y, is
the CRPS in several dimensions and strictly proper, but a wrong correlation changes it little (Pinson & Tastu 2013). The
variogram score sees correlations and ignores a bias shared by all targets, so it complements the energy score. Both are
sums over the targets: give them the same unit (`posterity.data.Standardization`), or weights.

Both are estimated from draws of the predictive, without bias for any number of draws (the "fair" estimators of Ferro
2014); a fair estimate of a score close to 0 may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.draws import column_chunks
from posterity.inference.diagnostics.sources.reading import read
from posterity.inference.diagnostics.sources.source import Source
from posterity.random import generator
from posterity.validation import check_integer, check_number, check_seed, to_numbers

PAIR_BUDGET = 4e8
"""Largest number of differences (pairs of draws, observations, targets) of energy scores: some 3 s on one core."""

CHUNK = 2**18
"""Numbers in a chunk of draws: 2 MiB, which fit into the cache."""


def energy_score(
    source: object,
    y: Any = None,
    *,
    draws: int = 1000,
    var_name: str | None = None,
    target_dim: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``energy`` of every observation of D targets, in units of y; lower is better. For one target it is the CRPS.

    E|Y - Y'| is the mean over all pairs of different draws if they are few, and otherwise over random pairs, as many as
    `PAIR_BUDGET` allows and at least S - 1 for each observation, which is also unbiased. With 4 S pairs the variance of
    the estimate is some 25 % above that of all pairs, with 12 S some 10 %. ``attrs["energy_pairs"]`` is the number of
    pairs of each observation.

    Args:
        source: a `Mixture` of batch shape (N,) and event shape (D,), draws (S, N, D), or ArviZ data.
        y: observations (N, D), which ArviZ data hold themselves.
        draws: draws made from a mixture.
        var_name: the observed variable of ArviZ data, if there are several.
        target_dim: the dimension of the targets in ArviZ data, by default the last one.
        seed: seed of draws and pairs.

    Raises:
        ValueError: if there are fewer than 2 draws, or a single target, and as `pit`.

    >>> draws = np.array([[[0.0, 0.0]], [[6.0, 8.0]]])  # two draws of one pair
    >>> energy_score(draws, np.zeros((1, 2))).energy.values  # (0 + 10) / 2 - 10 / 2
    array([0.])
    """
    seed = check_seed(seed)
    data = read(source, y, var_name, several=True, target_dim=target_dim)
    values, attrs = of_draws(data, draws, seed, energy=True)
    return data.dataset(values, **attrs, num_draws=data.num_draws)


def variogram_score(
    source: object,
    y: Any = None,
    *,
    order: float = 0.5,
    weights: Any = None,
    draws: int = 1000,
    var_name: str | None = None,
    target_dim: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``variogram`` of every observation of D targets, in units of y to the power 2 ``order``; lower is better.

    As in the definition every pair of targets is counted twice, as (i, j) and as (j, i).

    Args:
        source: as for `energy_score`.
        y: observations (N, D), which ArviZ data hold themselves.
        order: the power p; Scheuerer & Hamill recommend 0.5, which is least affected by skewed differences.
        weights: weights (D, D) of the pairs of targets, 1 by default. Nearly independent targets only add noise: give
            them a smaller weight.
        draws: draws made from a mixture.
        var_name: the observed variable of ArviZ data, if there are several.
        target_dim: the dimension of the targets in ArviZ data, by default the last one.
        seed: seed of the draws.

    Raises:
        ValueError: if ``order`` is not above 0, weights are negative or not finite or have another shape, there is a
            single target, or there are fewer than 2 draws, and as `pit`.

    >>> draws = np.array([[[0.0, 1.0]], [[5.0, 4.0]]])  # the targets always lie 1 apart
    >>> variogram_score(draws, np.array([[2.0, 6.0]])).variogram.values  # 2 (sqrt(4) - sqrt(1))²
    array([2.])
    """
    seed = check_seed(seed)
    check_number("order", order, "(0, inf)")
    data = read(source, y, var_name, several=True, target_dim=target_dim)
    values, attrs = of_draws(data, draws, seed, variogram=(order, weights))
    return data.dataset(values, **attrs, num_draws=data.num_draws)


def of_draws(
    data: Source, draws: int, seed: int, *, energy: bool = False, variogram: tuple[float, Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, int | float]]:
    """``energy``, and ``variogram`` of an order and weights, (N,) each, from the same draws; and their attributes."""
    draws = check_integer("draws", draws)
    count = data.draw_count(draws)
    _at_least_two(count)
    shifts = _shifts(count, count * data.observed.size)
    parts: dict[str, list[np.ndarray]] = {}
    for rows, drawn in data.draw_chunks(count, seed):
        y = data.observed[rows]
        if energy:
            parts.setdefault("energy", []).append(energy_from_draws(drawn, y, seed, shifts)[0])
        if variogram is not None:
            parts.setdefault("variogram", []).append(variogram_from_draws(drawn, y, *variogram))
    attrs: dict[str, int | float] = {"score_draws": count, "seed": seed}
    if energy:
        attrs["energy_pairs"] = _pairs(count, shifts)
    if variogram is not None:
        attrs["variogram_order"] = float(variogram[0])
    return {name: np.concatenate(values) for name, values in parts.items()}, attrs


def energy_from_draws(draws: np.ndarray, y: np.ndarray, seed: int, shifts: int | None = None) -> tuple[np.ndarray, int]:
    """Energy scores (N,) of y (N, D) from draws (S, N, D), and the number of pairs of draws behind each.

    The draws are permuted, in the same way for all observations, so that draws s places apart are random pairs even if
    the draws are a Markov chain. ``shifts`` is the largest s; up to S - 1 the pairs are all pairs, each once. By
    default it is the largest that `PAIR_BUDGET` allows.
    """
    count, total, targets = draws.shape
    _at_least_two(count)
    shifts = _shifts(count, draws.size) if shifts is None else shifts
    order = generator(seed, "pairs of draws").permutation(count)
    pairs = _pairs(count, shifts)
    energy, step = np.empty(total), max(1, CHUNK // (count * targets))
    for start in range(0, total, step):
        rows = slice(start, start + step)
        away = np.ascontiguousarray(np.moveaxis(draws[:, rows][order] - y[rows], -1, 0))  # (D, S, rows)
        apart = np.zeros(away.shape[-1])
        for shift in range(1, shifts + 1):
            apart += _length(away[:, shift:] - away[:, :-shift]).sum(0)
        energy[rows] = _length(away).mean(0) - 0.5 * apart / pairs
    return energy, pairs


def variogram_from_draws(draws: np.ndarray, y: np.ndarray, order: float = 0.5, weights: Any = None) -> np.ndarray:
    """Variogram scores (N,) of y (N, D) from draws (S, N, D)."""
    count, total, targets = draws.shape
    _at_least_two(count)
    if targets < 2:
        raise ValueError(f"expected at least 2 targets for a variogram, got {targets}")
    both = _both_ways(weights, targets)
    variogram = np.zeros(total)
    for rows in column_chunks(draws):
        part = np.ascontiguousarray(np.moveaxis(draws[:, rows], -1, 0))
        for i, j in zip(*np.nonzero(np.triu(both, 1)), strict=True):
            gaps = _power(part[i] - part[j], order)
            observed = _power(y[rows, i] - y[rows, j], order)
            # The square of a mean of draws is biased by the variance of the mean.
            variogram[rows] += both[i, j] * ((observed - gaps.mean(0)) ** 2 - gaps.var(0, ddof=1) / count)
    return variogram


def _shifts(count: int, numbers: int) -> int:
    """Largest distance of pairs in the order of the draws, given the number of numbers of all draws."""
    if 0.5 * (count - 1) * numbers <= PAIR_BUDGET:
        return count - 1
    return int(np.clip(PAIR_BUDGET // numbers, 1, count - 1))


def _pairs(count: int, shifts: int) -> int:
    return shifts * count - shifts * (shifts + 1) // 2


def _both_ways(weights: Any, targets: int) -> np.ndarray:
    """w_ij + w_ji, (D, D)."""
    if weights is None:
        return np.full((targets, targets), 2.0)
    values = to_numbers("weights", weights)
    if values.shape != (targets, targets):
        raise ValueError(f"expected weights of shape {(targets, targets)}, got {values.shape}")
    if not bool((np.isfinite(values) & (values >= 0)).all()):
        raise ValueError(f"expected finite weights of 0 or more, got {values.reshape(-1)[:5].tolist()}")
    return values + values.T


def _power(difference: np.ndarray, order: float) -> np.ndarray:
    size = np.abs(difference)
    return np.sqrt(size) if order == 0.5 else size if order == 1 else size**order


def _length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean length over the first dimension."""
    return np.abs(vectors[0]) if len(vectors) == 1 else np.sqrt(np.einsum("d...,d...->...", vectors, vectors))


def _at_least_two(count: int) -> None:
    if count < 2:
        raise ValueError(f"expected at least 2 draws for a score, got {count}")
