"""Convergence of many short chains: nested R-hat.

R-hat compares the means of single chains, so it asks chains long enough for a mean each. With hundreds of chains that
is wasteful: nested R-hat compares the means of groups of chains, *superchains*. Chains of a superchain start from one
point and go their own ways from there; the starts of different superchains are spread wider than the posterior. As
long as a superchain remembers its start, its mean is not that of the others, however many draws are averaged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.special import ndtri
from scipy.stats import rankdata

from posterity.inference.diagnostics.sampling.convergence import read_draws, require_moving
from posterity.validation import check_finite, check_integer

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2**18
"""How many draws are ranked at once: 2 MiB for each intermediate result."""


def nested_rhat(values: Tensor | np.ndarray | xr.DataArray, superchains: int, *, rank: bool = False) -> xr.Dataset:
    """``nested_rhat`` over "point": have chains forgotten where they started? One draw of each chain is enough.

    ``values`` (chain, draw, points) are draws of functions in any unit, or a DataArray of ArviZ data with the
    dimensions chain, draw and any others, which become the points. The chains are ``superchains`` groups of equal
    size, one after another, as ``HMC(superchains=...)`` starts them: each group from one point.

    With K superchains of M chains of N draws it is sqrt(1 + B / W): B is the variance of the K superchains' means,
    W the mean over superchains of (variance of the M chains' means + mean variance of the N draws of a chain); a
    variance of one value counts as 0 (Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari & Gelman 2024,
    arXiv:2110.13017; the same as ``rhat_nested`` of the R package posterior, which neither splits nor ranks).

    Because B has its share of Monte Carlo error, the value is above 1 after convergence too: about sqrt(1 + 1/M) for
    one draw of each chain, and sqrt(1 + 1 / (M (N + 1))) for N independent ones, which is ``attrs["independent"]``;
    a threshold is that plus what bias one tolerates, such as 0.01. ``superchains`` equal to the number of chains (a
    start for each, M = 1) is the idea of R-hat itself, sqrt(1 + B / W) instead of sqrt((N - 1) / N + B / W).

    ``rank=True`` takes normal scores of the ranks, and the larger of bulk and folded, as `function_convergence` does
    (Vehtari et al. 2021): for functions of heavy tails, and to see scales that differ while means agree.

    Raises ``ValueError`` for another shape, a DataArray without chain and draw, chains that do not fill the superchains
    equally, fewer than 2 superchains or no whole number of them, superchains of a single draw, values that are not
    finite real numbers or have a mask, or points where no draw differs.

    >>> draws = np.random.default_rng(0).normal(size=(64, 5, 3))
    >>> bool((nested_rhat(draws, superchains=8).nested_rhat < 1.05).all())
    True
    """
    array = read_draws(values).astype(float, copy=False)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"expected values of shape (chain, draw, points), got {array.shape}")
    chains, draws = array.shape[:2]
    superchains = check_integer("superchains", superchains, 2)
    if chains % superchains:
        raise ValueError(f"expected superchains that {chains} chains can fill equally, got {superchains}")
    if chains * draws == superchains:
        raise ValueError("expected 2 draws or more in each superchain, got 1")
    check_finite("values", array)
    require_moving(array)
    if rank:
        step = max(1, BLOCK // (chains * draws))
        blocks = [array[..., start : start + step] for start in range(0, array.shape[-1], step)]
        found = np.concatenate([_by_rank(block, superchains) for block in blocks])
    else:
        found = _nested(array, superchains)
    size = chains // superchains
    independent = 1 / draws if size == 1 else 1 / (size * (draws + (draws > 1)))
    attrs = {
        "superchains": superchains,
        "chains": chains,
        "draws": draws,
        "rank": int(rank),
        "independent": math.sqrt(1 + independent),
    }
    return xr.Dataset({"nested_rhat": ("point", found)}, attrs=attrs)


def _nested(array: np.ndarray, superchains: int) -> np.ndarray:
    grouped = array.reshape(superchains, -1, *array.shape[1:])  # (superchain, chain, draw, points)
    means = grouped.mean(2)
    within = _variance(means, 1) + _variance(grouped, 2).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # superchains that stand still are infinitely far apart
        return np.sqrt(1 + _variance(means.mean(1), 0) / within.mean(0))


def _variance(values: np.ndarray, axis: int) -> np.ndarray:
    """Unbiased; 0 for a single value."""
    return values.var(axis, ddof=1) if values.shape[axis] > 1 else values.var(axis)


def _by_rank(array: np.ndarray, superchains: int) -> np.ndarray:
    """The larger of bulk and folded."""
    folded = np.abs(array - np.median(array, axis=(0, 1)))
    return np.fmax(_nested(_normal_scores(array), superchains), _nested(_normal_scores(folded), superchains))


def _normal_scores(array: np.ndarray) -> np.ndarray:
    """Quantiles of the normal at the ranks (r - 3/8) / (S + 1/4) among all S draws, ties at their mean rank."""
    flat = array.reshape(-1, array.shape[-1])
    return ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25)).reshape(array.shape)
