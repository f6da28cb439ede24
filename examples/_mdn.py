"""Scores against the exact density, and means over data sets, for the examples of mixture density networks."""

from collections.abc import Sequence

import numpy as np
import torch

from posterity.data import Observations
from posterity.inference import Posterior

ROWS = 2_000  # test rows in one prediction


def log_scores(
    posterior: Posterior, test: Observations, draws: int | None = None, *, per_draw: bool = False
) -> np.ndarray:
    """log p(y|x) of the predictive at every test row, (N,); with ``per_draw``, of every single draw, (S, N)."""
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        predictive = posterior.predictive(some.x, draws=draws)
        y = some.y.unsqueeze(1) if per_draw else some.y
        parts.append(predictive.per_draw.log_prob(y).mT if per_draw else predictive.log_prob(y))
    return torch.cat(parts, -1).double().numpy()


def excess(log_scores: np.ndarray, test: Observations) -> np.ndarray:
    """Log scores of the exact density minus these, in nats; their mean is the Kullback-Leibler divergence."""
    return test.oracle_log_prob().double().numpy() - log_scores


def mean_and_error(name: str, values: Sequence[float]) -> dict[str, float]:
    """``name`` and ``name_se``, the mean over data sets and its standard error; empty for fewer than two values."""
    if len(values) < 2:
        return {}
    return {name: float(np.mean(values)), f"{name}_se": float(np.std(values, ddof=1) / np.sqrt(len(values)))}


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def bonferroni(values: Sequence[float]) -> float:
    """One p-value for several tests of one hypothesis: the smallest, corrected by Bonferroni."""
    return min(1.0, len(values) * min(values))
