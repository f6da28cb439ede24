"""Simulation-based calibration: does the truth have every rank among the draws of its posterior equally often?

If truth and data are drawn from the model, the rank of a scalar of the truth among L independent draws of an exact
posterior is uniform on 0, ..., L (Cook, Gelman & Rubin 2006; Talts et al. 2018, arXiv:1804.06788). Too many ranks at
both ends mean posteriors that are too narrow; in the middle, too wide; at one end, too high or too low.

A quantity shows only faults that change its own distribution. A mean-field guide may have the right marginals and a
wrong sum. A posterior that ignores the data has uniform ranks in every parameter, and only the log likelihood shows the
fault (Modrák et al. 2023, arXiv:2211.02383). Add functions of several parameters, and of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.simulation.refits import refit
from posterity.random import generator
from posterity.validation import check_finite, check_seed

EXPECTED = 5
"""Smallest expected number of ranks in a bin of the chi-squared test."""
BINS = 20
"""Largest number of its bins."""


def sbc(source: Any, *inputs: Any, seed: int = 0, **settings: Any) -> xr.Dataset:
    """Ranks of truths among the draws of their posteriors, with tests of their uniformity.

    Args:
        source: the result of `refit`, or a model.
        inputs: with a model, its arguments without y.
        seed: seed of the random order of ties, of ``pit``, and with a model of `refit`.
        settings: with a model, those of `refit` (``method``, ``count``, ``draws``, ``test_quantities``, ``at``,
            ``folder``, ``n_jobs``, ...).

    Returns:
        Over "simulation" and "quantity": ``rank`` from 0 to L = ``attrs["draws"]``, with ties in random order, and
        ``pit`` = (rank + U) / (L + 1) with U uniform on (0, 1), which is exactly uniform for an exact posterior and
        independent draws; `pit_ecdf` and tests of uniformity take it. Over "quantity": ``p_value_ks``, the
        Kolmogorov-Smirnov test of ``pit``, which detects shifts best, and ``p_value_chi2``, Pearson's test of ranks in
        at most 20 bins with at least 5 expected in each, which detects wrong widths. The latter is nan if there are
        not two such bins (below 10 simulations; 11 if L is even and small). ``p_value`` joins all tests: the smallest
        times their number (Bonferroni), at most 1.

    Raises:
        ValueError: A Dataset lacks ``truth`` and ``draws`` of fitting shapes or has values that are not finite, or
            comes with settings; and as `refit`.

    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(200, 100, 1)) + rng.normal(size=(200, 1, 1))
    >>> exact = xr.Dataset({"truth": (("simulation", "quantity"), values[:, 0]),
    ...                     "draws": (("simulation", "draw", "quantity"), values[:, 1:])})
    >>> bool(sbc(exact).p_value > 0.01)
    True
    """
    seed = check_seed(seed)
    refits = source_of(source, inputs, seed, settings)
    truth, draws = refits["truth"].values, refits["draws"].values
    rng = generator(seed, "ranks of simulations")
    below = np.empty(truth.shape, dtype=int)
    slots = np.empty(truth.shape, dtype=int)
    for index, own in enumerate(truth):  # one simulation at a time saves memory
        below[index] = (draws[index] < own).sum(0)
        slots[index] = (draws[index] == own).sum(0) + 1
    rank = below + rng.integers(0, slots)
    count, length = truth.shape[0], draws.shape[1]
    pit = (rank + rng.random(rank.shape)) / (length + 1)
    ks = np.array([stats.kstest(column, "uniform").pvalue for column in pit.T])
    chi2 = np.array([_chi2_p_value(column, length) for column in rank.T])
    tests = np.concatenate([ks, chi2[np.isfinite(chi2)]])
    kept = {"draws": length, "simulations": count, "seed": seed}
    return xr.Dataset(
        {
            "rank": (("simulation", "quantity"), rank),
            "pit": (("simulation", "quantity"), pit),
            "p_value_ks": ("quantity", ks),
            "p_value_chi2": ("quantity", chi2),
            "p_value": min(1.0, float(tests.min()) * len(tests)),
        },
        coords={name: refits[name] for name in ("simulation", "quantity") if name in refits.coords},
        attrs={**refits.attrs, **kept},
    )


def source_of(source: Any, inputs: tuple[Any, ...], seed: int, settings: dict[str, Any]) -> xr.Dataset:
    """The checked refits: ``source`` itself, or the result of `refit` if it is a model."""
    if not isinstance(source, xr.Dataset):
        if not callable(source) and not hasattr(source, "model"):
            raise ValueError(f"expected a model, or a Dataset as refit() returns, got {type(source).__name__}")
        source = refit(source, *inputs, seed=seed, **settings)
    elif inputs or settings:
        raise ValueError(f"expected no inputs or settings of refit() beside its result, got {sorted(settings)}")
    if not {"truth", "draws"} <= set(source.data_vars):
        raise ValueError(
            f"expected a Dataset with 'truth' and 'draws', as refit() returns, got {list(source.data_vars)}"
        )
    truth, draws = source["truth"], source["draws"]
    wanted = ("simulation", "quantity"), ("simulation", "draw", "quantity")
    if (truth.dims, draws.dims) != wanted or not draws.size:
        raise ValueError(
            f"expected truth over {wanted[0]} and draws over {wanted[1]}, got {truth.sizes} and {draws.sizes}"
        )
    check_finite("truth", truth.values)
    check_finite("draws", draws.values)
    return source


def _chi2_p_value(rank: np.ndarray, length: int) -> float:
    """Pearson's test of ranks 0, ..., ``length`` in bins of nearly equally many ranks; nan for too few ranks."""
    for bins in range(min(BINS, length + 1, len(rank) // EXPECTED), 1, -1):
        edges = np.round(np.linspace(0, length + 1, bins + 1)).astype(int)
        if len(rank) * np.diff(edges).min() >= EXPECTED * (length + 1):
            break
    else:
        return float("nan")
    observed = np.histogram(rank, np.append(edges[:-1] - 0.5, length + 0.5))[0]
    return float(stats.chisquare(observed, len(rank) * np.diff(edges) / (length + 1)).pvalue)
