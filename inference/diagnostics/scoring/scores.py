"""Proper scores: one number for each observation that is best, on average, for the true distribution.

The *log score* log p(y|x) (nats, higher is better) is what maximum likelihood maximises; it is local, and one
outlier that the model called impossible decides it. The *CRPS* (units of y, lower is better) looks at the whole
distribution and is forgiving in the tails. The *squared error* of the mean (squared units of y) judges the mean
alone. Of several targets the *energy score* takes the place of the CRPS, and the *variogram score* looks at how they
go together: see `posterity.inference.diagnostics.scoring.multivariate`. For intervals see
`posterity.inference.diagnostics.scoring.interval_score`.

Scores of one model mean little by themselves. To compare two on the same observations use `paired_difference`:
what makes an observation hard is common to both and cancels. `elpd_heldout` hands the log scores to
``az.compare``.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.arviz import elpd_data
from posterity.inference.diagnostics.scoring.crps import crps_from_draws, crps_in_closed_form
from posterity.inference.diagnostics.scoring.multivariate import of_draws
from posterity.inference.diagnostics.sources.reading import has_several_targets, read
from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import check_finite, check_integer, check_seed

NAMES = ("log_score", "crps", "energy", "variogram", "interval_score", "weighted_interval_score", "squared_error")
"""What `score_summary` and `paired_difference` look for."""


def scores(
    source: object,
    y: Any = None,
    *,
    draws: int = 1000,
    var_name: str | None = None,
    target_dim: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``log_score`` (nats), ``crps`` (units of y) and ``squared_error`` (squared units of y) of every observation.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), draws (S, N) of the predictive with ``y``, or ArviZ
    data with ``posterior_predictive``, ``observed_data`` and ``log_likelihood``.

    - ``log_score``: log p(y), exact for a mixture. For ArviZ data, the log of the likelihood averaged over the
      draws, which is held-out only if the data are. Draws have no density: of an array of them it is left out.
    - ``crps``: closed form for normal components with N K² <= 3e8 pairs; else the unbiased estimate from ``draws``
      draws of the predictive, whose error for one observation is about 0.2 (y in the middle) to 1 (y far out)
      times sd/sqrt(draws). ArviZ data and arrays: from all the draws they hold. ``attrs["crps_method"]`` tells
      ("closed form" or "draws"), ``attrs["crps_draws"]`` how many.
    - ``squared_error``: (y - mean)².

    Of D targets (a mixture of event shape (D,) with ``y`` (N, D), draws (S, N, D), or ArviZ data and the name of the
    dimension that counts them, ``target_dim``) there are ``log_score``, of all together; ``energy`` and ``variogram``
    in place of the CRPS, from draws, as `energy_score` and `variogram_score` (order 0.5) give them; and
    ``squared_error``, the sum over the targets.

    A y that the model calls impossible has log score -inf. Raises ``ValueError`` for fewer than 2 draws, a
    predictive without a finite mean (the CRPS is infinite there), angles (these scores are of a line), and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    >>> result = scores(mixture, torch.zeros(1))
    >>> result.log_score.values.round(4), result.crps.values.round(4)
    (array([-0.9189]), array([0.2337]))
    """
    check_integer("draws", draws, 2)
    seed = check_seed(seed)
    several = target_dim is not None or has_several_targets(source)
    data = read(source, y, var_name, several=several, target_dim=target_dim)
    several = data.observed.ndim == 2
    data.require_line()
    mean, _ = data.moments()
    check_finite("means of the predictive", mean)
    found = {} if data.kind == "draws" else {"log_score": data.log_score()}
    attrs: dict[str, Any]
    if several:
        estimates, attrs = of_draws(data, draws, seed, energy=True, variogram=(0.5, None))
    else:
        estimates, attrs = _crps(data, draws, seed)
    error = (data.observed - mean) ** 2
    found |= {**estimates, "squared_error": error.sum(-1) if several else error}
    return data.dataset(found, **attrs, num_draws=data.num_draws)


def score_summary(scores: xr.Dataset) -> xr.Dataset:
    """Mean of each score over the observations and its standard error: ``crps``, ``crps_se``, ..., and ``n``.

    Takes what `scores`, `interval_score`, `energy_score` or `variogram_score` return; the dimension "level" of
    intervals stays. The error is sd/sqrt(n), for independent observations.
    Raises ``ValueError`` without any score, or for fewer than two observations.
    """
    return _mean_and_error({name: scores[name] for name in _names(scores)}, scores.attrs)


def paired_difference(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    """Mean of a - b for each score both have, and its paired standard error: ``crps``, ``crps_se``, ..., and
    ``n``.

    Takes two results of `scores`, or of what `score_summary` takes, on the same observations. Above zero, a has the
    better ``log_score``, and is worse by every other score, all of which are costs.
    Raises ``ValueError`` where the observations or their coordinates differ, or no score is common.

    >>> a = xr.Dataset({"crps": ("obs", [1.0, 2.0, 3.0])})
    >>> result = paired_difference(a, a + 0.5)
    >>> float(result.crps), float(result.crps_se)
    (-0.5, 0.0)
    """
    common = [name for name in _names(a) if name in _names(b)]
    if not common:
        raise ValueError(f"expected scores of the same kind, got {_names(a)} and {_names(b)}")
    if dict(a.sizes) != dict(b.sizes):
        raise ValueError(f"expected scores of the same observations, got {dict(a.sizes)} and {dict(b.sizes)}")
    try:
        xr.align(a, b, join="exact")
    except ValueError:
        raise ValueError("expected scores of the same observations, got other coordinates") from None
    differences = {name: a[name] - b[name] for name in common}
    return _mean_and_error(differences, {"difference": "a - b"})


def elpd_heldout(source: object, y: Any = None, *, var_name: str | None = None) -> object:
    """ArviZ's ``ELPDData`` of held-out log scores: ``az.compare({"a": elpd_heldout(...), "b": ...})`` ranks them.

    ``source`` is a `Mixture` with ``y``, ArviZ data of held-out observations, or a result of `scores`. The total
    is the sum of log p(y|x) in nats, its error sqrt(n Var). Nothing is estimated from data that were fitted, so
    unlike PSIS-LOO it has no effective number of parameters (``p`` is nan) and no Pareto k.
    The error of a single observation is nan, with a warning.
    Raises ``ValueError`` where a log score is not finite, and as `scores`.
    """
    if isinstance(source, xr.Dataset):
        if "log_score" not in source or y is not None:
            raise ValueError("expected a Dataset with 'log_score', as scores() returns, and no y, got others")
        values, count = source["log_score"], int(source.attrs.get("num_draws", 1))
    else:
        data = read(source, y, var_name)
        values, count = data.dataset({"log_score": data.log_score()})["log_score"], data.num_draws
    check_finite("log scores", values.values)
    if values.size == 1:
        warnings.warn("the error of a single observation is nan: score several", UserWarning, stacklevel=2)
    return elpd_data(values, n_samples=count)


def _crps(data: Source, draws: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, str | int]]:
    exact = crps_in_closed_form(data)
    if exact is not None:
        return {"crps": exact}, {"crps_method": "closed form"}
    attrs: dict[str, str | int] = {"crps_method": "draws", "crps_draws": data.draw_count(draws)}
    if data.has_density:
        attrs["seed"] = seed
    parts = [crps_from_draws(drawn, data.observed[rows]) for rows, drawn in data.draw_chunks(draws, seed)]
    return {"crps": np.concatenate(parts)}, attrs


def _names(scores: xr.Dataset) -> list[str]:
    if not isinstance(scores, xr.Dataset):
        raise ValueError(f"expected a Dataset of scores, as scores() returns, got {type(scores).__name__}")
    names = [name for name in NAMES if name in scores]
    if not names:
        raise ValueError(f"expected a Dataset with any of {', '.join(NAMES)}, got {list(scores.data_vars)}")
    for name in names:
        if scores[name].dtype.kind not in "biuf":
            raise ValueError(f"expected scores that are real numbers, got {name} of {scores[name].dtype}")
    return names


def _mean_and_error(values: dict[str, xr.DataArray], attrs: dict) -> xr.Dataset:
    found: dict[str, xr.DataArray | int] = {}
    for name, scores in values.items():
        dims = [dim for dim in scores.dims if not (name == "interval_score" and dim == "level")]
        n = math.prod(scores.sizes[dim] for dim in dims)
        if n < 2:
            raise ValueError(f"expected at least 2 observations for a standard error, got {n}")
        check_finite(name, scores.values)
        found[name] = scores.mean(dims)
        found[f"{name}_se"] = scores.std(dims, ddof=1) / np.sqrt(n)
        found["n"] = n
    return xr.Dataset(found, attrs=attrs)
