"""Leave-one-out with importance draws that are moved towards each left-out posterior, by ArviZ 1.x."""

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr

from posterity.inference.arviz.containers import SAMPLE_DIMS, from_groups
from posterity.inference.arviz.installed import arviz
from posterity.validation import check_integer

ROW, PARAMETER = "row", "parameter"


def moment_match(
    log_likelihood: np.ndarray,
    positions: np.ndarray,
    log_prob: Callable[[np.ndarray], np.ndarray],
    log_likelihood_at: Callable[[np.ndarray, int], np.ndarray],
    *,
    reff: float,
    threshold: float,
    max_iters: int = 30,
    split: bool = True,
) -> xr.Dataset:
    """``elpd`` in nats and ``pareto_k`` of observations after moment matching (Paananen et al. 2021, arXiv:1906.08850).

    The draws are shifted, then scaled, then rotated, as long as this lowers the Pareto k of the importance weights for
    the posterior without the observation. If no such step lowers it, the values are those of PSIS-LOO.

    Args:
        log_likelihood: (chain, draw, row), of the observations to be matched alone.
        positions: draws in unconstrained space, (chain, draw, dim).
        log_prob: function of positions (S, dim) to the log density (S,) of the posterior in unconstrained space, up to
            a constant.
        log_likelihood_at: function of positions (S, dim) and a row to the log likelihood (S,).
        reff: effective over actual number of draws.
        threshold: the k to get below.
        max_iters: largest number of steps for each observation.
        split: move only half of the draws, and weight all draws by the mixture of both distributions.

    Raises:
        ValueError: in ArviZ before 1.0, which has no moment matching.
    """
    check_integer("max_iters", max_iters, 1)
    if not hasattr(arviz(), "loo_moment_match"):
        raise ValueError(
            f"expected ArviZ 1.0 or newer (on Python 3.12 or newer) for moment matching, got {arviz().__version__}: "
            "use loo(..., refit=leave_one_out(...))"
        )
    dims = (*SAMPLE_DIMS, ROW)
    data = from_groups({"log_likelihood": xr.Dataset({"y": (dims, log_likelihood)}, _labels(log_likelihood, dims))})
    parameters = (*SAMPLE_DIMS, PARAMETER)
    draws = xr.DataArray(positions, dims=parameters, coords=_labels(positions, parameters))

    def evaluated(function: Callable[..., np.ndarray]) -> Callable[..., xr.DataArray]:
        def at(moved: xr.DataArray, *row: int) -> xr.DataArray:
            values = moved.transpose(*parameters).values
            density = function(values.reshape(-1, values.shape[-1]), *(int(one) for one in row))
            return draws[..., 0].drop_vars(PARAMETER).copy(data=density.reshape(values.shape[:2]))

        return at

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # k is returned, and says the same
        warnings.simplefilter("ignore", RuntimeWarning)
        start = arviz().loo(data, pointwise=True, reff=reff)
        found = arviz().loo_moment_match(
            data, start, evaluated(log_prob), evaluated(log_likelihood_at), draws, reff=reff, k_threshold=threshold,
            max_iters=max_iters, split=split, pointwise=True,
        )  # fmt: skip
    return xr.Dataset({"elpd": (ROW, found.elpd_i.values), "pareto_k": (ROW, found.pareto_k.values)})


def _labels(values: np.ndarray, dims: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {dim: np.arange(size) for dim, size in zip(dims, values.shape, strict=True)}
