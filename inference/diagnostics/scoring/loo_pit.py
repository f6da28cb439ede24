"""LOO-PIT: the probability integral transform of every observation, had it been left out of the fit.

PIT values of fitted data lean towards 1/2, because each observation drew the predictive towards itself. Weighting the
draws as `loo` does takes that back without another fit (Gelfand, Dey & Chang 1992; Vehtari, Gelman & Gabry 2017,
arXiv:1507.04544). The N values still come from one fit and depend on each other, so a test of independent uniform
values has the wrong level; POT-C (Tesso & Vehtari) is made for them.
"""

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.arviz import group, group_names
from posterity.inference.diagnostics.scoring._psis import check_draws, choose_reff, good_k, smoothed, warn_of_bad
from posterity.inference.diagnostics.sources.draws import RANKS, source_of_arviz
from posterity.random import generator
from posterity.validation import check_finite, check_seed


def loo_pit(data: Any, *, var_name: str | None = None, reff: float | None = None, seed: int = 0) -> xr.Dataset:
    """``pit`` = P(Y_n <= y_n | all other y) of every observation, ``pit_sf`` = 1 - ``pit``, and ``pareto_k`` of both.

    ``data`` is ArviZ data with ``posterior_predictive``, ``observed_data`` and ``log_likelihood`` (``var_name`` chooses
    the variable where there are several); ``reff`` is that of `loo`. `pit_ecdf` and the tests of uniformity take the
    result; ``attrs["dependent"]`` is 1: test it by POT-C.

    The value is a weighted randomised rank. With weights w that sum to one and are worth n = 1/sum(w²) draws,
    pit = (w below y + U (w at y + 1/n)) / (1 + 1/n), U uniform from ``seed``: for equal weights the rank of `pit`,
    which is exactly uniform, for continuous and discrete y, and never 0 or 1. ``az.loo_pit`` is w below y, with ties
    treated in another way in each version.

    Warns where a k is bad, as `loo`. Raises ``ValueError`` as `loo` and `pit`, and where the draws of the two groups
    are not the same ones: other sizes or coordinates of "chain" and "draw".

    >>> from posterity.inference.arviz import from_arrays
    >>> rng = np.random.default_rng(0)
    >>> y, mean = rng.normal(size=40), rng.normal(scale=40**-0.5, size=(1, 1000, 1))
    >>> data = from_arrays(
    ...     posterior={"mean": mean},
    ...     log_likelihood={"y": -0.5 * (y - y.mean() - mean) ** 2},
    ...     posterior_predictive={"y": rng.normal(y.mean() + mean, size=(1, 1000, 40))},
    ...     observed_data={"y": y},
    ... )
    >>> loo_pit(data).pit.dims
    ('y_dim_0',)
    """
    seed = check_seed(seed)
    groups = group_names(data)
    source = source_of_arviz(data, groups, var_name, None)
    if source.log_likelihood is None:
        raise ValueError(f"expected ArviZ data with a log_likelihood of the variable, got groups {groups}")
    _require_same_draws(data, var_name)
    draws = source.num_draws
    check_draws(draws)
    check_finite("log_likelihood", source.log_likelihood)
    reff, threshold = choose_reff(data, reff), good_k(draws)
    below, above, one, k = np.empty((4, len(source.observed)))
    for rows, _, log_weights, shape in smoothed(source.log_likelihood, reff):
        k[rows] = shape
        weights, drawn, y = np.exp(log_weights), source.predictive[:, rows].T, source.observed[rows, None]
        below[rows] = (weights * (drawn < y)).sum(1)
        above[rows] = (weights * (drawn > y)).sum(1)
        one[rows] = (weights**2).sum(1)  # the weight of one draw, which y is itself
    warn_of_bad(k, threshold, draws)
    at = np.clip(1 - below - above, 0, None) + one
    share = generator(seed, RANKS).random(len(at))
    columns = {"pit": (below + share * at) / (below + at + above)}
    columns |= {"pit_sf": (above + (1 - share) * at) / (below + at + above), "pareto_k": k}
    return source.dataset(
        columns,
        method="PSIS-LOO, weighted randomised rank",
        dependent=1,
        n_bad=int((k > threshold).sum()),
        num_draws=draws,
        reff=reff,
        seed=seed,
        threshold=threshold,
    )


def _require_same_draws(data: Any, var_name: str | None) -> None:
    """``ValueError`` unless draw s of the predictive has the weight of draw s of the likelihood."""
    name = var_name or next(iter(group(data, "observed_data").data_vars))
    drawn, weighed = group(data, "posterior_predictive")[name], group(data, "log_likelihood")[name]
    for dim in ("chain", "draw"):
        same = drawn.sizes[dim] == weighed.sizes[dim]
        if same and dim in drawn.coords and dim in weighed.coords:
            same = np.array_equal(drawn[dim].values, weighed[dim].values)
        if not same:
            raise ValueError(
                f"expected posterior_predictive and log_likelihood of the same draws, got other {dim!r}: "
                f"{drawn.sizes[dim]} from {drawn[dim].values[:3].tolist()}... and {weighed.sizes[dim]} from "
                f"{weighed[dim].values[:3].tolist()}..."
            )
