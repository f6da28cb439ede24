"""Proper scores of several targets at once: what a score of each target by itself cannot see is how they go together.

    energy      E|Y - y| - 1/2 E|Y - Y'|                                   (Gneiting & Raftery 2007, eq. 22)
    variogram   sum_ij w_ij (|y_i - y_j|^p - E|Y_i - Y_j|^p)²              (Scheuerer & Hamill 2015, eq. 14)

Lower is better. The energy score, in units of y, is the CRPS of several dimensions and strictly proper, but a wrong
correlation changes it little (Pinson & Tastu 2013). The variogram score sees correlations and is blind to a bias that
all targets share, so it goes beside the energy score and not in its place. Both add targets up: give them one unit
(`posterity.data.Standardization`), or weights.

Both are estimated from draws of the predictive, without bias for any number of them (the "fair" estimators of Ferro
2014); a fair estimate of a score that is nearly 0 may come out negative.
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
"""Up to this many differences (pairs of draws, observations, targets) energy scores take: some 3 s on one core."""
BLOCK = 2**18
"""How many numbers of draws are worked on at once: 2 MiB, which stay in the cache."""


def energy_score(
    source: object,
    y: Any = None,
    *,
    draws: int = 1000,
    var_name: str | None = None,
    target_dim: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``energy`` of every observation of D targets, in units of y; lower is better.

    ``source`` is a `Mixture` of batch shape (N,) and event shape (D,) with ``y`` (N, D), of which ``draws`` draws are
    taken, draws (S, N, D) with ``y``, or ArviZ data whose dimension ``target_dim`` (by default the last one) counts
    the targets. For one target it is the CRPS.

    E|Y - Y'| is the mean over all pairs of different draws where there are few of them; else over pairs drawn at
    random, as many in all as `PAIR_BUDGET` allows and S - 1 at least for each observation, which is unbiased as well.
    With 4 S pairs the estimate's variance is some 25 % above that of all pairs, with 12 S some 10 %. ``attrs`` say
    which (``energy_pairs``, the pairs of each observation).
    Raises ``ValueError`` for fewer than 2 draws, one target, and as `pit`.

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

    ``source``, ``draws``, ``var_name`` and ``target_dim`` are those of `energy_score`. ``order`` is the power p;
    Scheuerer & Hamill find 0.5 to be good, as it is least troubled by skewed differences. ``weights`` (D, D) are those
    of the pairs, 1 by default; targets that have little to do with each other only add noise, and deserve less.
    As in the definition every pair is counted twice, as (i, j) and as (j, i).
    Raises ``ValueError`` for an order that is no number above 0, weights of another shape, negative or not finite real
    numbers, one target, fewer than 2 draws, and as `pit`.

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
    """``energy``, and ``variogram`` of an order and weights, (N,) each, from the same draws; and what they are of."""
    draws = check_integer("draws", draws)
    count = data.draw_count(draws)
    _at_least_two(count)
    shifts = _shifts(count, count * data.observed.size)
    parts: dict[str, list[np.ndarray]] = {}
    for rows, made in data.draw_chunks(count, seed):
        y = data.observed[rows]
        if energy:
            parts.setdefault("energy", []).append(energy_from_draws(made, y, seed, shifts)[0])
        if variogram is not None:
            parts.setdefault("variogram", []).append(variogram_from_draws(made, y, *variogram))
    attrs: dict[str, int | float] = {"score_draws": count, "seed": seed}
    if energy:
        attrs["energy_pairs"] = _pairs(count, shifts)
    if variogram is not None:
        attrs["variogram_order"] = float(variogram[0])
    return {name: np.concatenate(found) for name, found in parts.items()}, attrs


def energy_from_draws(draws: np.ndarray, y: np.ndarray, seed: int, shifts: int | None = None) -> tuple[np.ndarray, int]:
    """Energy scores (N,) of y (N, D) from draws (S, N, D), and the number of pairs of draws behind each.

    The draws are put into a random order, the same for all observations, so that those which are s places apart are
    pairs at random even where the draws are a Markov chain. ``shifts`` is the largest s; up to S - 1 they are all
    pairs, each once. By default it is what `PAIR_BUDGET` allows.
    """
    count, total, targets = draws.shape
    _at_least_two(count)
    shifts = _shifts(count, draws.size) if shifts is None else shifts
    order = generator(seed, "pairs of draws").permutation(count)
    pairs = _pairs(count, shifts)
    found, step = np.empty(total), max(1, BLOCK // (count * targets))
    for start in range(0, total, step):
        rows = slice(start, start + step)
        away = np.ascontiguousarray(np.moveaxis(draws[:, rows][order] - y[rows], -1, 0))  # (D, S, rows)
        apart = np.zeros(away.shape[-1])
        for shift in range(1, shifts + 1):
            apart += _length(away[:, shift:] - away[:, :-shift]).sum(0)
        found[rows] = _length(away).mean(0) - 0.5 * apart / pairs
    return found, pairs


def variogram_from_draws(draws: np.ndarray, y: np.ndarray, order: float = 0.5, weights: Any = None) -> np.ndarray:
    """Variogram scores (N,) of y (N, D) from draws (S, N, D)."""
    count, total, targets = draws.shape
    _at_least_two(count)
    if targets < 2:
        raise ValueError(f"expected at least 2 targets for a variogram, got {targets}")
    both = _both_ways(weights, targets)
    found = np.zeros(total)
    for rows in column_chunks(draws):
        part = np.ascontiguousarray(np.moveaxis(draws[:, rows], -1, 0))
        for i, j in zip(*np.nonzero(np.triu(both, 1)), strict=True):
            gaps = _power(part[i] - part[j], order)
            observed = _power(y[rows, i] - y[rows, j], order)
            # The square of a mean of draws is too large by the mean's variance.
            found[rows] += both[i, j] * ((observed - gaps.mean(0)) ** 2 - gaps.var(0, ddof=1) / count)
    return found


def _shifts(count: int, numbers: int) -> int:
    """Distances in the order of the draws at which pairs are taken, of so many numbers of draws in all."""
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
    """Over the first dimension."""
    return np.abs(vectors[0]) if len(vectors) == 1 else np.sqrt(np.einsum("d...,d...->...", vectors, vectors))


def _at_least_two(count: int) -> None:
    if count < 2:
        raise ValueError(f"expected at least 2 draws for a score, got {count}")
