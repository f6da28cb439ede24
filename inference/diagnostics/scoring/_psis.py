"""Pareto-smoothed importance weights that leave one observation out of the posterior, for `loo` and `loo_pit`."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from posterity.inference.arviz import psislw, relative_efficiency
from posterity.validation import check_number

TAIL = 25
"""Fewest draws with a tail for Pareto smoothing."""

CHUNK = 2**21
"""Weights in a chunk: 16 MiB for each intermediate result."""


def smoothed(log_likelihood: np.ndarray, reff: float) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of log likelihoods (S, N): observations, their log likelihoods and log weights (rows, S), and k-hat."""
    step = max(1, CHUNK // len(log_likelihood))
    for start in range(0, log_likelihood.shape[1], step):
        rows = slice(start, start + step)
        values = np.ascontiguousarray(log_likelihood[:, rows].T, float)
        yield rows, values, *psislw(-values, reff)


def good_k(draws: int) -> float:
    """The largest k-hat at which S draws can be used: min(1 - 1/log10(S), 0.7) (Vehtari et al. 2024)."""
    return min(1 - 1 / math.log10(draws), 0.7)


def check_draws(draws: int) -> None:
    """``ValueError`` for a single draw."""
    if draws < 2:
        raise ValueError(f"expected at least 2 draws to leave an observation out, got {draws}: use held-out data")


def choose_reff(data: Any, reff: float | None) -> float:
    """``reff``, checked, or that of ArviZ, from the group ``posterior``."""
    if reff is None:
        return relative_efficiency(data)
    return check_number("reff", reff, "(0, inf)")


def warn_of_bad(k: np.ndarray, threshold: float, draws: int) -> None:
    """Give a ``UserWarning`` with the number of k-hat above the threshold, or for too few draws."""
    bad = int((k > threshold).sum())
    if draws < TAIL:
        warnings.warn(
            f"{draws} draws have no tail by which leave-one-out is judged (it takes {TAIL}), and members of an "
            "ensemble are not draws of a posterior: compare on held-out data (scores, elpd_heldout), or draw more",
            UserWarning,
            stacklevel=3,
        )
    elif bad:
        warnings.warn(
            f"Pareto k of {bad} of {k.size} observations is above {threshold:.2f} (highest {k.max():.2f}): these "
            "draws do not determine the posterior without one of them. Fit again without each of them "
            "(loo(..., refit=leave_one_out(model, *args, method=...))), score held-out data, or widen the tails.",
            UserWarning,
            stacklevel=3,
        )
