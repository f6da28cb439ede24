"""What the mixture density examples share: fits of several seeds, and their scores against the oracle."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from posterity.data import Observations, Standardization
from posterity.inference import Posterior, infer

ROWS = 5_000  # test rows at a time


def log_scores(posterior: Posterior, test: Observations, draws: int | None = None) -> np.ndarray:
    """log p(y|x) of the predictive at every test row."""
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        parts.append(posterior.predictive(some.x, draws=draws).to("cpu", torch.double).log_prob(some.y.double()))
    return torch.cat(parts).numpy()


def excess(own: np.ndarray, test: Observations) -> np.ndarray:
    """How far every score is below the oracle's, in nats; its mean is the Kullback-Leibler divergence."""
    return test.oracle_log_prob().double().numpy() - own


def standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def fit(pair: Callable[[Standardization], Any], data: Observations, method: Any, seed: int) -> Posterior:
    """A model of a standardised table, fitted to it."""
    return infer(pair(Standardization.fit(data)), data.x, data.y, method=method, seed=seed)
