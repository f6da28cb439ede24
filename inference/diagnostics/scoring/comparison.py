"""Comparison of models by their predictions, by leave-one-out or on held-out data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference import arviz
from posterity.inference.diagnostics.scoring.loo import loo
from posterity.inference.diagnostics.sources.results import check_result, contents
from posterity.validation import check_finite


def compare(models: Mapping[str, Any], *, method: str = "stacking", var_name: str | None = None) -> Any:
    """Table of the models, best first: a pandas DataFrame with the same columns in every version of ArviZ.

    ``models`` maps names to two or more of: ArviZ data (to which `loo` is applied, with ``var_name``), results of
    `loo`, results of `scores` on held-out data, or ``ELPDData`` (from ``az.loo`` or ``elpd_heldout``). All must be of
    the same observations in the same order, which is checked by shape and by the coordinates of dimensions with the
    same name.

    - ``rank`` from 0; ``elpd``, the sum of the log predictive densities in nats, and its error ``se``; ``p``, the
      effective number of parameters, nan for held-out scores.
    - ``elpd_diff``: the model less the best one, 0 or below, and ``dse``, its error for paired observations. The normal
      approximation is fair only for N above 100 and differences above 4 (Sivula et al. 2020, arXiv:2008.10296).
    - ``weight``: by "stacking" (Yao, Vehtari, Simpson & Gelman 2018), the weights of the best-predicting mixture of the
      models; by "BB-pseudo-BMA" or "pseudo-BMA" from the elpd alone.
    - ``n_bad``: number of bad Pareto k without a refit; ``warning`` if there is any. Models with bad k look better than
      they are.

    For ArviZ's own table and plot, use ``az.compare({name: to_elpd(loo(data)), ...})``.

    Raises:
        ValueError: if there are fewer than 2 models, observations differ, scores are not finite, or ``method`` is
            unknown.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        got = len(models) if isinstance(models, Mapping) else type(models).__name__
        raise ValueError(f"expected at least 2 models by name, got {got}")
    densities = {str(name): _read(name, model, var_name) for name, model in models.items()}
    (first, reference), *others = ((name, density["elpd"]) for name, density in densities.items())
    for name, elpd in others:
        if elpd.shape != reference.shape:
            raise ValueError(
                f"expected models of the same observations, got {first!r} of {dict(reference.sizes)} and {name!r} of "
                f"{dict(elpd.sizes)}"
            )
        for dim in set(reference.dims) & set(elpd.dims):
            if not np.array_equal(reference[dim].values, elpd[dim].values):
                raise ValueError(
                    f"expected models of the same observations, got other {dim!r} in {first!r} and {name!r}"
                )
    return arviz.compare(densities, method=method)


def to_elpd(result: xr.Dataset) -> Any:
    """ArviZ's ``ELPDData`` of a result of `loo`, for ``az.compare`` and its plots; the k of refits count as 0.

    Raises:
        ValueError: if ``result`` is not a result of `loo`.
    """
    check_result("loo", result, "elpd", "pareto_k", "p_loo", "refitted")
    missing = sorted({"num_draws", "threshold"} - set(result.attrs))
    if missing:
        raise ValueError(f"expected a result of loo(), with the attributes num_draws, threshold, got none of {missing}")
    return arviz.elpd_data(
        result["elpd"],
        n_samples=result.attrs["num_draws"],
        p=float(result["p_loo"]),
        pareto_k=result["pareto_k"].where(~result["refitted"].astype(bool), 0.0),
        good_k=result.attrs["threshold"],
    )


def _read(name: str, model: Any, var_name: str | None) -> xr.Dataset:
    """``elpd`` of the observations, and ``p`` and ``n_bad`` if they are known."""
    elpd = arviz.read_elpd(model)
    if elpd is not None:
        if "pareto_k" in elpd:
            elpd["n_bad"] = (elpd["pareto_k"] > elpd.attrs["threshold"]).sum()
        density = elpd
    elif isinstance(model, xr.Dataset) and {"elpd", "p_loo", "n_bad"} <= set(model.data_vars):
        density = model[["elpd", "n_bad"]].assign(p=model["p_loo"])
    elif isinstance(model, xr.Dataset) and "log_score" in model:
        density = model[["log_score"]].rename(log_score="elpd")
    elif isinstance(model, xr.Dataset):
        raise ValueError(f"expected {name!r} to be a result of loo() or scores(), got {contents(model)}")
    else:
        return _read(name, loo(model, var_name=var_name), None)
    check_finite(f"elpd of {name!r}", density["elpd"].values)
    return density
