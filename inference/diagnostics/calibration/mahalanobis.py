r"""Joint size of the errors of several targets, correlations included.

$$d^2 = (y - m)^T C^{-1} (y - m)$$

with m and C the mean and covariance of the predictive. If the predictive is normal and right, $d^2$ follows a
chi-squared distribution with D degrees of freedom, whatever the correlations. Targets whose pulls are all right one by
one, but whose correlation is wrong, have a $d^2$ that does not. The distance has no direction: a shift and a wrong
width both make it large. For these, see the pulls of each target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.sources.draws import RANKS, column_chunks
from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.random import generator
from posterity.validation import check_choice, check_seed

REFERENCES = ("rank", "normal")


def mahalanobis(
    source: object,
    y: Any = None,
    *,
    reference: str = "rank",
    var_name: str | None = None,
    target_dim: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``squared_distance`` d² of every observation of D targets, with its probabilities ``pit`` and ``pit_sf``.

    ``pit`` is P(d² of the predictive <= d²), uniform on [0, 1] for a right model, so `uniformity_test` and `pit_ecdf`
    apply; ``pit_sf`` is the other tail, computed by itself, so that it stays above 0 far out. Too many values near 1
    mean errors that are larger than predicted, or wrong correlations.

    - *Mixtures of normals.* A ``component`` is drawn from its responsibilities P(k | y, x). If the model is right, (k,
      y) is then a draw from the joint distribution of component and value, so d² from component k is exactly chi² with
      D degrees of freedom. (The distance from the mean of the mixture is not, and the distance from the nearest
      component is too small.)
    - *Draws.* d² is computed from the mean and covariance (S - 1) of the draws, and compared with ``reference``:

      - ``"rank"``: y and the S draws together have one mean and covariance; ``pit`` is the randomised rank of y's
        distance from this mean among the distances of the draws. It is exactly uniform for a right predictive of any
        shape, since y and the draws are exchangeable.
      - ``"normal"``: Hotelling's S (S - D) / ((S² - 1) D) d² ~ F(D, S - D), exact for independent *normal* draws, and
        smooth in the tails, where a rank ends at 1/(S + 1). chi² would be far wrong for S not much above D.

    Args:
        source: a `Mixture` of normals of batch shape (N,) and event shape (D,), draws (S, N, D), or ArviZ data.
        y: observations (N, D), which ArviZ data hold themselves.
        reference: "rank" or "normal".
        var_name: the observed variable of ArviZ data, if there are several.
        target_dim: the dimension of the targets in ArviZ data, by default the last one.
        seed: seed of the drawn components, or of the ties of ranks.

    Raises:
        ValueError: if components are not normal, ``reference`` is unknown, there are fewer than D + 1 draws or the
            covariance of the draws has no inverse, and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.multivariate_normal(torch.zeros(1, 1), torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    >>> result = mahalanobis(mixture, torch.tensor([[3.0, 4.0]]))
    >>> result.squared_distance.values, result.pit_sf.values.round(8)  # exp(-25/2) for two targets
    (array([25.]), array([3.73e-06]))
    """
    check_choice("reference", reference, REFERENCES)
    seed = check_seed(seed)
    data = read(source, y, var_name, several=True, target_dim=target_dim)
    targets = data.observed.shape[1]
    attrs: dict[str, str | int] = {"targets": targets, "num_draws": data.num_draws, "seed": seed}
    if data.has_density:
        component, distance = require_mixture(data, "distances from components").component_distances(seed)
        tails = stats.chi2.cdf(distance, targets), stats.chi2.sf(distance, targets)
        columns = {"squared_distance": distance, "pit": tails[0], "pit_sf": tails[1], "component": component}
        return data.dataset(columns, **attrs, reference="chi2")
    count = data.num_draws
    if count <= targets:
        raise ValueError(f"expected more draws than the {targets} targets, got {count}")
    draws = data.draws(count, seed)
    if reference == "rank":
        distance, tails = _distances(draws, data.observed), _rank_tails(draws, data.observed, seed)
    else:
        distance = _distances(draws, data.observed)
        ratio = distance * count * (count - targets) / ((count**2 - 1) * targets)
        tails = stats.f.cdf(ratio, targets, count - targets), stats.f.sf(ratio, targets, count - targets)
    columns = {"squared_distance": distance, "pit": tails[0], "pit_sf": tails[1]}
    return data.dataset(columns, **attrs, reference=reference)


def _distances(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """d² (N,) of y (N, D) from the mean and covariance of draws (S, N, D)."""
    distance = np.empty(len(y))
    for rows in column_chunks(draws):
        part = np.moveaxis(draws[:, rows], 0, -1)  # (rows, D, S)
        mean = part.mean(-1, keepdims=True)
        distance[rows] = _squared(_factor(part - mean), y[rows][..., None] - mean)[:, 0] * (len(draws) - 1)
    return distance


def _rank_tails(draws: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomised ranks (N,) of y's distance among the distances of the draws, from below and from above."""
    count = len(draws)
    below, equal = np.empty(len(y)), np.empty(len(y))
    for rows in column_chunks(draws):
        part = np.moveaxis(draws[:, rows], 0, -1)
        mean = part.mean(-1, keepdims=True)
        # Mean and covariance are those of y and the draws together, or the rank would not be uniform.
        mean = mean + (y[rows][..., None] - mean) / (count + 1)
        together = np.concatenate([part, y[rows][..., None]], -1) - mean
        distances = _squared(_factor(together), together)
        below[rows] = (distances[:, :-1] < distances[:, -1:]).sum(-1)
        equal[rows] = (distances[:, :-1] == distances[:, -1:]).sum(-1)
    share = generator(seed, RANKS).random(len(y))
    slots = (equal + 1) / (count + 1)
    return below / (count + 1) + share * slots, (count - below - equal) / (count + 1) + (1 - share) * slots


def _factor(centred: np.ndarray) -> np.ndarray:
    """Cholesky factor of the sums of squares and products, (rows, D, D)."""
    scatter = centred @ np.swapaxes(centred, -1, -2)
    width = np.sqrt(np.einsum("...ii->...i", scatter))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = scatter / width[:, :, None] / width[:, None, :]
    # The smallest eigenvalue of the correlation matrix is zero where a target is a linear function of others.
    bad = ~np.isfinite(correlation).all((-1, -2))
    bad[~bad] = np.linalg.eigvalsh(correlation[~bad])[:, 0] < 1e-12
    if bad.any():
        raise ValueError(
            f"expected draws whose covariance has an inverse, got {int(bad.sum())} observations without: a target "
            "that is constant, or a linear function of others"
        )
    return width[:, :, None] * np.linalg.cholesky(correlation)


def _squared(factor: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """|L^-1 v|² of factors (rows, D, D) and vectors (rows, D, M): (rows, M)."""
    return (np.linalg.solve(factor, vectors) ** 2).sum(-2)
