"""Proper scores: one number for each observation that is best, on average, for the true distribution.

The *log score* log p(y|x) (nats, higher is better) is what maximum likelihood maximises; it is local, and one
outlier that the model called impossible decides it. The *CRPS* (units of y, lower is better) looks at the whole
distribution and is forgiving in the tails. The *squared error* of the mean (squared units of y) judges the mean
alone.

Scores of one model mean little by themselves. To compare two on the same observations use `paired_difference`:
what makes an observation hard is common to both and cancels. `elpd_heldout` hands the log scores to
``az.compare``.
"""

import numpy as np
import xarray as xr
from torch import Tensor

from posterity.inference.arviz import elpd_data
from posterity.inference.diagnostics._source import MixtureSource, Source, read, require_finite
from posterity.inference.diagnostics.crps import crps_from_draws, crps_normal_mixture, has_closed_form

NAMES = ("log_score", "crps", "squared_error")


def scores(
    source: object,
    y: Tensor | None = None,
    *,
    draws: int = 1000,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``log_score`` (nats), ``crps`` (units of y) and ``squared_error`` (squared units of y) of every observation.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), or ArviZ data with ``posterior_predictive``,
    ``observed_data`` and ``log_likelihood``.

    - ``log_score``: log p(y), exact for a mixture. For ArviZ data, the log of the likelihood averaged over the
      draws, which is held-out only if the data are.
    - ``crps``: closed form for normal components with N K² <= 3e8 pairs; else the unbiased estimate from ``draws``
      draws of the predictive, whose error for one observation is about 0.2 (y in the middle) to 1 (y far out)
      times sd/sqrt(draws). ArviZ data: from all the draws they hold. ``attrs["crps_method"]`` tells ("closed
      form" or "draws"), ``attrs["crps_draws"]`` how many.
    - ``squared_error``: (y - mean)².

    A y that the model calls impossible has log score -inf. Raises ``ValueError`` for fewer than 2 draws, a
    predictive without a finite mean (the CRPS is infinite there), and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    >>> result = scores(mixture, torch.zeros(1))
    >>> result.log_score.values.round(4), result.crps.values.round(4)
    (array([-0.9189]), array([0.2337]))
    """
    if draws < 2:
        raise ValueError(f"expected at least 2 draws for the CRPS, got {draws}")
    data = read(source, y, var_name)
    mean, _ = data.moments()
    require_finite("means of the predictive", mean)
    crps, attrs = _crps(data, draws, seed)
    values = (data.log_score(), crps, (data.observed - mean) ** 2)
    return data.dataset(dict(zip(NAMES, values, strict=True)), **attrs, num_draws=data.num_draws)


def score_summary(scores: xr.Dataset) -> xr.Dataset:
    """Mean of each score over the observations and its standard error: ``crps``, ``crps_se``, ..., and ``n``.

    Takes what `scores` returns. The error is sd/sqrt(n), for independent observations.
    Raises ``ValueError`` without any score, or for fewer than two observations.
    """
    return _mean_and_error({name: scores[name] for name in _names(scores)}, scores.attrs)


def paired_difference(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    """Mean of a - b for each score both have, and its paired standard error: ``crps``, ``crps_se``, ..., and
    ``n``.

    Takes two results of `scores` on the same observations. Above zero, a has the better ``log_score``, and the
    worse ``crps`` and ``squared_error``.
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


def elpd_heldout(source: object, y: Tensor | None = None, *, var_name: str | None = None) -> object:
    """ArviZ's ``ELPDData`` of held-out log scores: ``az.compare({"a": elpd_heldout(...), "b": ...})`` ranks them.

    ``source`` is a `Mixture` with ``y``, ArviZ data of held-out observations, or a result of `scores`. The total
    is the sum of log p(y|x) in nats, its error sqrt(n Var). Nothing is estimated from data that were fitted, so
    unlike PSIS-LOO it has no effective number of parameters (``p`` is nan) and no Pareto k.
    Raises ``ValueError`` where a log score is not finite, and as `scores`.
    """
    if isinstance(source, xr.Dataset):
        if "log_score" not in source or y is not None:
            raise ValueError("expected a Dataset with 'log_score', as scores() returns, and no y")
        values, count = source["log_score"], int(source.attrs.get("num_draws", 1))
    else:
        data = read(source, y, var_name)
        values, count = data.dataset({"log_score": data.log_score()})["log_score"], data.num_draws
    require_finite("log scores", values.values)
    return elpd_data(values, n_samples=count)


def _crps(data: Source, draws: int, seed: int) -> tuple[np.ndarray, dict[str, str | int]]:
    if isinstance(data, MixtureSource) and has_closed_form(data.mixture):
        return crps_normal_mixture(data.mixture, data.y), {"crps_method": "closed form"}
    sampled = data.draws(draws, seed)
    attrs: dict[str, str | int] = {"crps_method": "draws", "crps_draws": len(sampled)}
    if isinstance(data, MixtureSource):
        attrs["seed"] = seed
    return crps_from_draws(sampled, data.observed), attrs


def _names(scores: xr.Dataset) -> list[str]:
    if not isinstance(scores, xr.Dataset):
        raise ValueError(f"expected a Dataset of scores, as scores() returns, got {type(scores).__name__}")
    names = [name for name in NAMES if name in scores]
    if not names:
        raise ValueError(f"expected a Dataset with any of {', '.join(NAMES)}, got {list(scores.data_vars)}")
    return names


def _mean_and_error(values: dict[str, xr.DataArray], attrs: dict) -> xr.Dataset:
    n = next(iter(values.values())).size
    if n < 2:
        raise ValueError(f"expected at least 2 observations for a standard error, got {n}")
    found: dict[str, float] = {}
    for name, scores in values.items():
        require_finite(name, scores.values)
        found[name] = float(scores.mean())
        found[f"{name}_se"] = float(scores.std(ddof=1)) / np.sqrt(n)
    return xr.Dataset({**found, "n": n}, attrs=attrs)
