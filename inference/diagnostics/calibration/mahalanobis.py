"""Are the errors of several targets as large *together* as they should be, correlations included?

    d² = (y - m)' C^-1 (y - m)

for a predictive of mean m and covariance C. If it is normal and right, d² follows chi² with D degrees of freedom,
whatever the correlations. Targets whose pulls are all good, one by one, but whose correlation is wrong, have a d² that
does not. It sees no direction (a shift and a width both make it large): for that look at the pulls of each target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.sources.draws import DrawsSource, column_chunks
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
    """``squared_distance`` d² of every observation of D targets, and ``pit`` and ``pit_sf``: how much of it is usual.

    ``pit`` is P(d² of the predictive <= d²), uniform on [0, 1] for a right model, so that `uniformity_test` and
    `pit_ecdf` apply; ``pit_sf`` is the other tail, by itself, so that it stays a number far out. Too many values near
    1: errors larger than predicted, or correlations that are wrong.

    - A `Mixture` of normals of batch shape (N,) and event shape (D,) with ``y`` (N, D): the ``component`` is drawn from
      its responsibilities P(k | y, x) with ``seed``. If the model is right, (k, y) is then a draw from the joint
      distribution of component and value, so that d² from component k is chi² with D degrees of freedom exactly. (The
      distance from the mixture's own mean is not, and the nearest component's is too small.)
    - Draws (S, N, D) with ``y``, or ArviZ data with the targets along ``target_dim``: d² from the draws' mean and
      covariance (S - 1). ``reference`` says what it is compared with. ``"rank"``: y and the S draws together have one
      mean and covariance, and ``pit`` is the randomised rank of y's distance from it among theirs, exactly uniform for
      a right predictive of any shape, as y and the draws are then exchangeable. ``"normal"``: Hotelling's
      S (S - D) / ((S² - 1) D) d² ~ F(D, S - D), exact for *normal* draws that are independent, and smooth in the tails
      where a rank ends at 1/(S + 1). chi² would be wrong by far for S not much above D.

    Raises ``ValueError`` for components that are not normal, another ``reference``, fewer than D + 1 draws, draws
    whose covariance has no inverse, and as `pit`.

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
        chosen, distance = require_mixture(data, "distances from components").component_distances(seed)
        tails = stats.chi2.cdf(distance, targets), stats.chi2.sf(distance, targets)
        found = {"component": chosen}
        attrs["reference"] = "chi2"
    else:
        count, found = data.num_draws, {}
        if count <= targets:
            raise ValueError(f"expected more draws than the {targets} targets, got {count}")
        distance, below, equal = _from_draws(data.as_draws(count, seed), ranks=reference == "rank")
        attrs["reference"] = reference
        if reference == "rank":
            share = generator(seed, "ranks").random(len(distance))
            slots = (equal + 1) / (count + 1)
            tails = below / (count + 1) + share * slots, (count - below - equal) / (count + 1) + (1 - share) * slots
        else:
            ratio = distance * count * (count - targets) / ((count**2 - 1) * targets)
            tails = stats.f.cdf(ratio, targets, count - targets), stats.f.sf(ratio, targets, count - targets)
    return data.dataset({"squared_distance": distance, "pit": tails[0], "pit_sf": tails[1], **found}, **attrs)


def _from_draws(data: DrawsSource, ranks: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """d² (N,), and with ``ranks`` how many draws are nearer than y to the middle of all of them, and as near."""
    total, count = len(data.observed), data.num_draws
    distance, below, equal = np.empty(total), np.zeros(total), np.zeros(total)
    for rows in column_chunks(data.predictive):
        draws = np.moveaxis(data.predictive[:, rows], 0, -1)  # (rows, D, S)
        middle = draws.mean(-1, keepdims=True)
        away = data.observed[rows][..., None] - middle
        distance[rows] = _squared(_factor(draws - middle), away)[:, 0] * (count - 1)
        if ranks:
            # y's share of the common mean; every point is treated alike, or the rank would not be uniform.
            middle = middle + away / (count + 1)
            together = np.concatenate([draws, data.observed[rows][..., None]], -1) - middle
            all_of_them = _squared(_factor(together), together)
            below[rows] = (all_of_them[:, :-1] < all_of_them[:, -1:]).sum(-1)
            equal[rows] = (all_of_them[:, :-1] == all_of_them[:, -1:]).sum(-1)
    return distance, below, equal


def _factor(centred: np.ndarray) -> np.ndarray:
    """The Cholesky factor of the sums of squares and products, (rows, D, D)."""
    scatter = centred @ np.swapaxes(centred, -1, -2)
    width = np.sqrt(np.einsum("...ii->...i", scatter))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = scatter / width[:, :, None] / width[:, None, :]
    # The last pivots of the correlation matrix are what the targets do not say of each other.
    bad = ~np.isfinite(correlation).all((-1, -2))
    bad[~bad] = np.linalg.eigvalsh(correlation[~bad])[:, 0] < 1e-12
    if bad.any():
        raise ValueError(
            f"expected draws whose covariance has an inverse, got {int(bad.sum())} observations without: "
            "a target that does not vary, or is a sum of others"
        )
    return width[:, :, None] * np.linalg.cholesky(correlation)


def _squared(factor: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """|L^-1 v|² of factors (rows, D, D) and vectors (rows, D, M): (rows, M)."""
    return (np.linalg.solve(factor, vectors) ** 2).sum(-2)
