"""Models ranked by how well they predict what they have not seen: by leave-one-out, or on held-out data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference import arviz
from posterity.inference.diagnostics.scoring.loo import loo
from posterity.validation import check_finite


def compare(models: Mapping[str, Any], *, method: str = "stacking", var_name: str | None = None) -> Any:
    """Table of the models, best first, as ArviZ's ``compare`` but the same in each version: a pandas DataFrame.

    ``models`` names two or more of: ArviZ data (`loo` is taken of it, ``var_name`` is its), results of `loo` or of
    `scores` on held-out data, or ``ELPDData`` (of ``az.loo``, ``elpd_heldout``); all of the same observations in the
    same order, which is checked as far as their shape and the coordinates of dimensions of the same name go.

    - ``rank`` from 0; ``elpd``, the sum of the log predictive densities in nats, and its error ``se``; ``p``, effective
      number of parameters, nan for held-out scores.
    - ``elpd_diff``: the model less the best one, 0 or below, and ``dse``, its error for paired observations. The normal
      distribution is a fair guide to it only for N above 100 and differences above 4 (Sivula et al. 2020,
      arXiv:2008.10296).
    - ``weight``: by "stacking" (Yao, Vehtari, Simpson & Gelman 2018), the weights of the mixture of models that
      predicts best; by "BB-pseudo-BMA" or "pseudo-BMA" from the elpd alone.
    - ``n_bad``: how many Pareto k are bad and were not fitted again; ``warning`` where there is any. Models with bad k
      look better than they are.

    For ArviZ's own table and its plot, ``az.compare({name: to_elpd(loo(data)), ...})``.
    Raises ``ValueError`` for fewer than 2 models, other observations, scores that are not finite, or another method.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        got = len(models) if isinstance(models, Mapping) else type(models).__name__
        raise ValueError(f"expected at least 2 models by name, got {got}")
    found = {str(name): _read(name, model, var_name) for name, model in models.items()}
    (first, one), *others = found.items()
    for name, other in others:
        if other["elpd"].shape != one["elpd"].shape:
            raise ValueError(
                f"expected models of the same observations, got {first!r} of {dict(one['elpd'].sizes)} and "
                f"{name!r} of {dict(other['elpd'].sizes)}"
            )
        for dim in set(one["elpd"].dims) & set(other["elpd"].dims):
            if not np.array_equal(one["elpd"][dim].values, other["elpd"][dim].values):
                raise ValueError(
                    f"expected models of the same observations, got other {dim!r} in {first!r} and {name!r}"
                )
    return arviz.compare(found, method=method)


def to_elpd(result: xr.Dataset) -> Any:
    """ArviZ's ``ELPDData`` of a result of `loo`, for ``az.compare`` and its plots; the k of refits count as 0.

    Raises ``ValueError`` for another Dataset.
    """
    if not isinstance(result, xr.Dataset) or not {"elpd", "pareto_k", "refitted"} <= set(result.data_vars):
        raise ValueError(f"expected a Dataset as loo() returns, got {_got(result)}")
    missing = sorted(({"num_draws", "threshold"} - set(result.attrs)) | ({"p_loo"} - set(result.variables)))
    if missing:
        raise ValueError(f"expected a Dataset as loo() returns, got one without {', '.join(missing)}")
    for name in ("elpd", "pareto_k", "p_loo", "refitted"):
        if result[name].dtype.kind not in "biuf":
            raise ValueError(f"expected the result of loo() with {name} as numbers, got {result[name].dtype}")
    return arviz.elpd_data(
        result["elpd"],
        n_samples=result.attrs["num_draws"],
        p=float(result["p_loo"]),
        pareto_k=result["pareto_k"].where(~result["refitted"].astype(bool), 0.0),
        good_k=result.attrs["threshold"],
    )


def _read(name: str, model: Any, var_name: str | None) -> xr.Dataset:
    """``elpd`` of the observations, and where there are, ``p`` and ``n_bad``."""
    elpd = arviz.read_elpd(model)
    if elpd is not None:
        if "pareto_k" in elpd:
            elpd["n_bad"] = (elpd["pareto_k"] > elpd.attrs["threshold"]).sum()
        found = elpd
    elif isinstance(model, xr.Dataset) and {"elpd", "p_loo", "n_bad"} <= set(model.data_vars):
        found = model[["elpd", "n_bad"]].assign(p=model["p_loo"])
    elif isinstance(model, xr.Dataset) and "log_score" in model:
        found = model[["log_score"]].rename(log_score="elpd")
    elif isinstance(model, xr.Dataset):
        raise ValueError(f"expected {name!r} as loo() or scores() return it, got {_got(model)}")
    else:
        return _read(name, loo(model, var_name=var_name), None)
    check_finite(f"elpd of {name!r}", found["elpd"].values)
    return found


def _got(result: Any) -> Any:
    return list(result.data_vars) if isinstance(result, xr.Dataset) else type(result).__name__
