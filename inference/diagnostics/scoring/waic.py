"""WAIC by ArviZ 0.23; ArviZ 1.x dropped it in favour of leave-one-out, which shows where it fails."""

import math
import warnings
from typing import Any

import xarray as xr

from posterity.inference import arviz
from posterity.inference.diagnostics.scoring.loo import log_likelihood_of


def waic(data: Any, *, var_name: str | None = None) -> xr.Dataset:
    """``elpd`` of every observation in nats, and ``elpd_waic``, ``se``, ``p_waic`` (Watanabe 2010).

    The values are those of ArviZ 0.23, except ``se`` = sqrt(N Var), whose variance is over N - 1 as in `loo`; it is nan
    for one observation, with a warning. ArviZ warns if the log likelihood of an observation varies too much between
    draws: use `loo`.

    Raises:
        ValueError: in ArviZ 1.x, and as `loo`.
    """
    log_likelihood_of(data, var_name)
    with warnings.catch_warnings():
        # For a single observation ArviZ would report that its terms are not pointwise.
        warnings.filterwarnings("ignore", "The point-wise WAIC is the same")
        result = arviz.waic(data, var_name=var_name)
    values = result["elpd"].values
    if values.size == 1:
        warnings.warn("the error of a single observation is nan: use several observations", UserWarning, stacklevel=2)
    return result.assign(se=math.sqrt(values.size) * values.std(ddof=1) if values.size > 1 else math.nan)
