"""K-fold cross-validation with refits: how well does a model predict rows that it was not fitted to?

Leave-one-out by importance sampling (`loo`) needs one fit, but fails where single observations decide, for draws of a
guide or an ensemble, and for networks, whose weights determine too little. K fits give exact held-out densities for
every row, slightly too low since each fit has a share of 1/K fewer rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import xarray as xr

from posterity.inference.arviz import elpd_data
from posterity.random import child_seeds
from posterity.validation import check_finite, check_seed, is_integer, shown, to_array

FITTED = 5  # the purpose of the seeds of the fits


def elpd_kfold(
    model: Any,
    *args: Any,
    folds: int | Sequence[Any] | np.ndarray = 10,
    method: Any,
    seed: int = 0,
    site: str | None = None,
) -> Any:
    """ArviZ's ``ELPDData`` of K-fold cross-validation, which `compare` and ``az.compare`` rank.

    The model is fitted K times, each time without the rows of one fold, and log p(y_n | rows of the other folds) is
    computed for every row of the fold: the likelihood averaged over the draws, in nats. The total is their sum, and its
    error sqrt(N Var). As with `elpd_heldout` there is no effective number of parameters (``p`` is nan) and no Pareto k.
    Give every model the same ``folds`` and ``seed``, so that `compare` sees the same splits.

    Rows that the model masks are in every fit, and not scored. Fits run one after another, or several at a time under
    ``joblib.parallel_config(n_jobs=...)``.

    Args:
        model: a Pyro model, or a ready pair, as for `infer`.
        args: its arguments, y last; rows are left out of all of them.
        folds: number of folds, of sizes that differ by at most one, shuffled by ``seed``; or the fold of every row as
            an array, such as the group that a row belongs to.
        method: a settings object such as `NUTS`.
        seed: seed of the split and of the fits.
        site: the observed site, if there are several.

    Raises:
        ValueError: if there are fewer than 2 folds, more folds than rows, several densities for each row, or a density
            is not finite.

    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> from posterity.inference import Ensemble
    >>> def model(x, y=None):
    ...     slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("obs", len(x)):
    ...         return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)
    >>> x = torch.linspace(-1, 1, 12)
    >>> found = elpd_kfold(model, x, 0.5 * x, folds=3, method=Ensemble(members=1, progress=False))
    >>> int(found.n_data_points)
    12
    """
    import torch

    from posterity.inference.program.arguments import read_arguments
    from posterity.inference.program.minibatch import check_rows
    from posterity.inference.program.observation import read_observation
    from posterity.inference.program.sites import inspect
    from posterity.inference.program.trace import unwrap_pair

    seed, args, bare = check_seed(seed), read_arguments(args), unwrap_pair(model)
    mask = read_observation(bare, args, inspect(bare, args, site).one_site()).scored
    if not mask.ndim or not bool(mask.any()):
        raise ValueError("expected rows that the model scores, got a single observation, or rows that are all masked")
    check_rows(args, len(mask))
    rows = mask.reshape(len(mask), -1).any(1).nonzero()[:, 0]
    labels = _folds(folds, len(mask), rows.numpy(), seed)
    names = np.unique(labels)
    seeds = child_seeds(seed, len(names), FITTED)
    jobs = [(rows[torch.as_tensor(labels == name)], fit_seed) for name, fit_seed in zip(names, seeds, strict=True)]
    found = joblib.Parallel()(joblib.delayed(_held_out)(model, args, method, site, *job) for job in jobs)
    elpd, draws = np.empty(len(rows)), [count for _, count in found]
    for name, (density, _) in zip(names, found, strict=True):
        elpd[labels == name] = density
    check_finite("log densities of the rows that were left out", elpd)
    if len(elpd) == 1:
        warnings.warn("the error of a single observation is nan: use several observations", UserWarning, stacklevel=2)
    values = xr.DataArray(elpd, dims="obs", coords={"obs": rows.numpy(), "fold": ("obs", labels)}, name="elpd")
    return elpd_data(values, n_samples=min(draws), folds=len(names))


def _folds(folds: Any, count: int, rows: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each of the scored ``rows`` among ``count`` rows."""
    from posterity.data.splits import kfold

    if is_integer(folds):
        labels = np.empty(len(rows), dtype=int)
        for number, (_, test) in enumerate(kfold(len(rows), folds, seed)):
            labels[test.numpy()] = number
        return labels
    given = to_array(folds, "folds")
    if given.shape != (count,) or given.dtype.kind not in "biuU":
        raise ValueError(f"expected folds to be a number, or the fold of each of {count} rows, got {shown(folds)}")
    if len(np.unique(given[rows])) < 2:
        raise ValueError(f"expected at least 2 folds of rows that the model scores, got {len(np.unique(given[rows]))}")
    return given[rows]


def _held_out(
    model: Any, args: tuple[Any, ...], method: Any, site: str | None, test: Any, seed: int
) -> tuple[np.ndarray, int]:
    """Log densities of the rows ``test`` given all other rows, and the number of draws that they are averaged over."""
    import torch

    from posterity.inference.infer import infer
    from posterity.inference.parallel import EXCLUSIVE
    from posterity.inference.program.minibatch import count_rows, take_rows

    train = torch.ones(count_rows(args), dtype=torch.bool)
    train[test] = False
    with EXCLUSIVE:
        posterior = infer(model, *take_rows(args, train.nonzero()[:, 0]), method=method, seed=seed, site=site)
        density = posterior.log_likelihood(*take_rows(args, test)).double().flatten(0, 1)
    if density[0].numel() != len(test):
        raise ValueError(f"expected one log density for each row, got shape {tuple(density.shape[1:])}")
    return (density.reshape(len(density), -1).logsumexp(0) - math.log(len(density))).cpu().numpy(), len(density)
