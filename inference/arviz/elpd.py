"""Expected log predictive densities in ArviZ's ``ELPDData``, and their comparison."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.arviz.containers import SAMPLE_DIMS, group
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz
from posterity.inference.arviz.statistics import ess
from posterity.validation import check_choice

COLUMNS = ("rank", "elpd", "p", "elpd_diff", "weight", "se", "dse", "warning", "n_bad", "scale")
METHODS = ("stacking", "BB-pseudo-BMA", "pseudo-BMA")


def relative_efficiency(data: Any) -> float:
    """ESS of posterior means over the number of draws, averaged over the variables; 1 for a single chain.

    This is the ``reff`` of ``az.loo``.

    Raises:
        ValueError: if there is no posterior, it lacks the dimensions chain and draw, or the result is not finite.
    """
    draws = group(data, "posterior")
    if not set(SAMPLE_DIMS) <= set(draws.dims):
        raise ValueError(f"expected a posterior with the dimensions chain and draw, got {tuple(draws.dims)}; pass reff")
    if draws.sizes["chain"] == 1:
        return 1.0
    sizes = ess(draws, method="mean")
    mean = float(np.mean(np.concatenate([sizes[name].values.reshape(-1) for name in sizes.data_vars])))
    reff = mean / (draws.sizes["chain"] * draws.sizes["draw"])
    if not math.isfinite(reff) or reff <= 0:
        raise ValueError(f"expected a posterior with effective sample sizes above 0, got reff={reff}; pass reff")
    return reff


def waic(data: Any, *, var_name: str | None = None) -> xr.Dataset:
    """WAIC by ArviZ 0.23: ``elpd`` of every observation in nats, and ``elpd_waic``, ``se``, ``p_waic``.

    (Watanabe 2010; ArviZ warns if the log likelihood of an observation varies too much between draws.)

    Raises:
        ValueError: in ArviZ 1.x, which has no WAIC, and without ``log_likelihood``.
    """
    if not HAS_INFERENCE_DATA:
        raise ValueError(f"expected ArviZ 0.23 for WAIC, got {arviz().__version__}, which dropped it: use loo")
    names = list(group(data, "log_likelihood").data_vars)
    if (var_name is None and len(names) > 1) or var_name not in (None, *names):
        check_choice("var_name", var_name, [str(name) for name in names])
    result = arviz().waic(data, pointwise=True, var_name=var_name, scale="log")
    totals = {name: float(result[name]) for name in ("elpd_waic", "se", "p_waic")}
    return xr.Dataset({"elpd": result["waic_i"].rename("elpd"), **totals}, attrs={"method": "WAIC"})


def elpd_data(
    elpd_i: xr.DataArray,
    *,
    n_samples: int,
    p: float = math.nan,
    pareto_k: xr.DataArray | None = None,
    good_k: float = math.nan,
    folds: int = 1,
) -> Any:
    """ArviZ's ``ELPDData``, which ``az.compare`` ranks.

    In ArviZ 0.23 the kind is ``loo``, the only one that ``az.compare`` accepts there.

    Args:
        elpd_i: log predictive density of each observation, in nats.
        n_samples: number of draws.
        p: effective number of parameters; nan for held-out scores, which have none.
        pareto_k: Pareto k of each observation, for leave-one-out.
        good_k: the largest k that is good.
        folds: number of folds, for K-fold cross-validation; ArviZ 0.23 has no place for it.
    """
    n = int(elpd_i.size)
    total = float(elpd_i.sum())
    # As in each version: the variance with 1/n in 0.23, with 1/(n - 1) in 1.x.
    se = math.sqrt(n) * float(elpd_i.std(ddof=0 if HAS_INFERENCE_DATA else 1)) if n > 1 else math.nan
    warning = pareto_k is not None and bool((pareto_k > good_k).any())
    if HAS_INFERENCE_DATA:
        fields = {
            "elpd_loo": total, "se": se, "p_loo": p, "n_samples": n_samples, "n_data_points": n,
            "warning": warning, "loo_i": elpd_i.rename("loo_i"), "scale": "log",
        }  # fmt: skip
        if pareto_k is not None:
            fields |= {"pareto_k": pareto_k, "good_k": good_k}
        return arviz().stats.stats_utils.ELPDData(list(fields.values()), index=list(fields))
    from arviz_stats import utils

    # 1.3 has a class for each estimator, and held-out scores are the K-fold one; earlier 1.x had one class for all.
    common = {
        "elpd": total, "se": se, "p": p, "n_samples": n_samples, "n_data_points": n, "scale": "log",
        "warning": warning, "good_k": good_k, "elpd_i": elpd_i, "pareto_k": pareto_k,
    }  # fmt: skip
    if not hasattr(utils, "ELPDDataLOOKFold"):
        return utils.ELPDData(kind="loo", **common)
    return utils.ELPDDataLOOKFold(**common, n_folds=folds) if pareto_k is None else utils.ELPDDataLOO(**common)


def read_elpd(data: Any) -> xr.Dataset | None:
    """``elpd``, ``p``, and ``pareto_k`` if known, of an ``ELPDData`` of either version; None for anything else.

    Attributes are ``num_draws`` and ``threshold``.

    Raises:
        ValueError: if it is not pointwise, or not in nats.
    """
    if not hasattr(data, "n_data_points") or not hasattr(data, "scale"):
        return None
    kind = "loo" if not HAS_INFERENCE_DATA or "loo_i" in data or "elpd_loo" in data else "waic"
    values = data.get(f"{kind}_i") if HAS_INFERENCE_DATA else data.elpd_i
    if values is None or data.scale != "log":
        raise ValueError("expected ELPDData made with pointwise=True and scale='log', got another")
    p = data[f"p_{kind}"] if HAS_INFERENCE_DATA else data.p
    k, good = getattr(data, "pareto_k", None), getattr(data, "good_k", math.nan)
    dataset = xr.Dataset({"elpd": values.rename("elpd"), "p": float(p)}, attrs={"num_draws": int(data.n_samples)})
    if k is None or good is None:
        return dataset
    return dataset.assign(pareto_k=k.rename("pareto_k")).assign_attrs(threshold=float(good))


def compare(models: Mapping[str, xr.Dataset], *, method: str = "stacking") -> Any:
    """ArviZ's table of models, best first, as a DataFrame with the same columns in both versions.

    Each model is a Dataset with ``elpd`` of the same observations, and optionally the scalars ``p`` and ``n_bad``
    (number of unreliable ``elpd``). Columns: ``rank`` from 0; ``elpd`` in nats and its error ``se``; ``p``;
    ``elpd_diff``, the model less the best one (never above 0), with its paired error ``dse``; ``weight`` by ``method``;
    ``n_bad``, and ``warning`` if it is not 0; ``scale``, always "log".

    Weights are computed with the best density of each observation set to 1, which changes no weight and prevents an
    outlier of -1000 nats from underflowing. Errors of a single observation are nan, with a warning.

    Raises:
        ValueError: if ``method`` is unknown.
    """
    check_choice("method", method, METHODS)
    elpd = {name: model["elpd"].values.reshape(-1).astype(float) for name, model in models.items()}
    best = np.max(list(elpd.values()), axis=0)
    shifted = {name: elpd_data(xr.DataArray(value - best, dims="obs"), n_samples=1) for name, value in elpd.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword in DataFrame.sort_values")  # ArviZ 0.23 with pandas 4
        if HAS_INFERENCE_DATA:
            seed = {"seed": 124} if method == "BB-pseudo-BMA" else {}  # the default of 1.x
            table = arviz().compare(shifted, ic="loo", scale="log", method=method, **seed)
        else:
            table = arviz().compare(shifted, method=method, round_to="none")
    order = list(table.index)
    table["elpd"] = [float(elpd[name].sum()) for name in order]
    several = len(best) > 1
    table["se"] = [math.sqrt(len(best)) * float(elpd[name].std(ddof=1)) if several else math.nan for name in order]
    if not several:
        table["dse"] = math.nan
        warnings.warn("the errors of a single observation are nan: use several observations", UserWarning, stacklevel=3)
    table["p"] = [float(models[name].get("p", math.nan)) for name in order]
    table["elpd_diff"] = table["elpd"] - table["elpd"].iloc[0]
    table["n_bad"] = [int(models[name].get("n_bad", 0)) for name in order]
    table["warning"] = table["n_bad"] > 0
    table["scale"] = "log"
    return table[list(COLUMNS)]
