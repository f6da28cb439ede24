"""What the mixture density examples share: scores against the oracle, and means over data sets."""

from collections.abc import Sequence

import numpy as np
import torch

from posterity.data import Observations
from posterity.inference import Posterior

ROWS = 2_000  # test rows at a time


def log_scores(posterior: Posterior, test: Observations, draws: int | None = None, *, each: bool = False) -> np.ndarray:
    """log p(y|x) of the predictive at every test row (N,); with ``each``, of every draw by itself (S, N)."""
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        predictive = posterior.predictive(some.x, draws=draws)
        y = some.y.unsqueeze(1) if each else some.y
        parts.append(predictive.per_draw.log_prob(y).mT if each else predictive.log_prob(y))
    return torch.cat(parts, -1).double().numpy()


def excess(own: np.ndarray, test: Observations) -> np.ndarray:
    """How far every score is below the oracle's, in nats; its mean is the Kullback-Leibler divergence."""
    return test.oracle_log_prob().double().numpy() - own


def mean_and_error(name: str, values: Sequence[float]) -> dict[str, float]:
    """``name`` and ``name_se``: the mean over data sets and its standard error; nothing for fewer than two."""
    if len(values) < 2:
        return {}
    return {name: float(np.mean(values)), f"{name}_se": float(np.std(values, ddof=1) / np.sqrt(len(values)))}


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def least_p(values: Sequence[float]) -> float:
    """Of several tests of the same: a p-value of all together, from the least one (Bonferroni)."""
    return min(1.0, len(values) * min(values))
