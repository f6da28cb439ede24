"""WAIC, where ArviZ still has it: ArviZ 1.x dropped it for leave-one-out, which says where it fails."""

import math
import warnings
from typing import Any

import xarray as xr

from posterity.inference import arviz
from posterity.inference.diagnostics.scoring.loo import log_likelihood_of


def waic(data: Any, *, var_name: str | None = None) -> xr.Dataset:
    """``elpd`` of every observation in nats, and ``elpd_waic``, ``se``, ``p_waic`` (Watanabe 2010).

    By ArviZ 0.23, but for ``se`` = sqrt(N Var), whose variance is over N - 1 as in `loo`; nan for one observation, with
    a warning. ArviZ warns where the log likelihood of an observation varies too much between draws for it: use `loo`.
    Raises ``ValueError`` in ArviZ 1.x, and as `loo`.
    """
    log_likelihood_of(data, var_name)
    with warnings.catch_warnings():
        # Of a single observation it would say that its terms are not pointwise.
        warnings.filterwarnings("ignore", "The point-wise WAIC is the same")
        found = arviz.waic(data, var_name=var_name)
    values = found["elpd"].values
    if values.size == 1:
        warnings.warn("the error of a single observation is nan: judge several", UserWarning, stacklevel=2)
    return found.assign(se=math.sqrt(values.size) * values.std(ddof=1) if values.size > 1 else math.nan)
