"""A regression with known noise and one outlier of high leverage: exact posterior and leave-one-out."""

import numpy as np
from scipy import stats

NOISE, PRIOR, OUTLIER = 0.5, 2.0, 3
_rng = np.random.default_rng(3)
X = _rng.normal(size=(20, 3))
X[OUTLIER] *= 4
Y = X @ _rng.normal(size=3) + NOISE * _rng.normal(size=20)
Y[OUTLIER] += 2


def posterior(kept=slice(None)):
    """Mean and covariance of the weights, given the rows ``kept``."""
    covariance = np.linalg.inv(np.eye(X.shape[1]) / PRIOR**2 + X[kept].T @ X[kept] / NOISE**2)
    return covariance @ X[kept].T @ Y[kept] / NOISE**2, covariance


def log_density(rows, kept):
    """log p(y) in nats of each of the ``rows``, given the rows ``kept``."""
    mean, covariance = posterior(kept)
    sd = np.sqrt(NOISE**2 + np.einsum("ni,ij,nj->n", X[rows], covariance, X[rows]))
    return stats.norm.logpdf(Y[rows], X[rows] @ mean, sd)


def exact() -> np.ndarray:
    """log p(y_n | all other y) in nats."""
    every = np.arange(len(Y))
    return np.concatenate([log_density([n], every != n) for n in every])


def exact_draws(seed: int) -> np.ndarray:
    """Independent draws (4, 1000, 3)."""
    return np.random.default_rng(seed).multivariate_normal(*posterior(), size=(4, 1000))
