r"""Pulls: residuals in units of their predicted standard deviation.

Over many observations, a correct model has pulls of mean 0 and width 1; a width of 1.25 says that the predicted errors
are 20 % too small. If the predictive is not normal, ``kind`` chooses the definition:

- ``"gaussianised"`` (default): $z = \Phi^{-1}(F(y|x))$, exactly N(0, 1) for a correct continuous predictive.
- ``"moment"``: (y - mean) / sd. Mean 0 and width 1 for a correct model, but not normal: if the predictive has two
  peaks, so have the pulls.
- ``"component"``: $(y - \mu_k) / \sigma_k$ for one component k of a mixture of normals, *drawn* from the
  responsibilities P(k | y, x). If the model is correct, (k, y) is then a draw from the joint distribution of component
  and value, so z is exactly N(0, 1). The nearest or the most probable component would take over the far tail of its
  neighbours, and a correct model would show a width below 1 (0.90 is typical).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtri

from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.inference.diagnostics.sources.results import check_result
from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import check_choice, check_finite, check_seed

KINDS = ("gaussianised", "moment", "component")


def pulls(
    source: object,
    y: Any = None,
    *,
    kind: str = "gaussianised",
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``pull`` of every observation, without unit; positive if y lies above the prediction.

    - ``"gaussianised"`` uses the smaller tail of y, so that 12 standard deviations come out as 12. Tails below 2.2e-308
      count as that, which limits pulls to ±37.5. The PIT of draws is a randomised rank among S draws (see `pit`), so
      pulls hardly exceed Phi^-1(1 - 1/S): ±3.3 for 1,000 draws.
    - ``"moment"`` needs a finite variance of the predictive, or draws that differ. Mean and variance of S draws are
      estimates, which widens the pulls of a right normal model by sqrt((1 + 1/S)(S - 1)/(S - 3)), 1.03 for 50 draws.
    - ``"component"`` needs a mixture, and also returns the drawn ``component`` (N,), which depends on ``seed``.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data.
        y: observations (N,), which ArviZ data hold themselves.
        kind: "gaussianised", "moment" or "component"; of angles only "gaussianised".
        var_name: the observed variable of ArviZ data, if there are several.
        seed: seed of random ranks, and of drawn components.

    Raises:
        ValueError: if ``kind`` is unknown or the source does not allow it, and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.full((3, 1), 2.0))
    >>> pulls(mixture, torch.tensor([-2.0, 0.0, 24.0])).pull.values.round(6) + 0.0
    array([-1.,  0., 12.])
    """
    check_choice("kind", kind, KINDS)
    seed = check_seed(seed)
    data = read(source, y, var_name)
    if kind != "gaussianised":
        data.require_line()
    attrs: dict[str, str | int] = {"kind": kind, "num_draws": data.num_draws}
    if kind == "component":
        component, values = require_mixture(data, "kind='component'").component_pulls(seed)
        return data.dataset({"pull": values, "component": component}, **attrs, seed=seed)
    if kind == "moment":
        return data.dataset({"pull": _moment_pulls(data)}, **attrs)
    if data.default_pit_kind == "rank":
        attrs["seed"] = seed
    return data.dataset({"pull": gaussianised(*data.tails(seed))}, **attrs)


def pull_array(pulls: xr.Dataset) -> np.ndarray:
    """The values of ``pull`` (N,), N >= 2; ``ValueError`` if they are missing or not finite."""
    values = check_result("pulls", pulls, "pull")["pull"].values.reshape(-1).astype(float)
    check_finite("pulls", values)
    if values.size < 2:
        raise ValueError(f"expected at least 2 pulls, got {values.size}")
    return values


def gaussianised(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Normal quantiles of probabilities from both tails; the smaller tail keeps its precision far out."""
    tail = np.maximum(np.minimum(lower, upper), np.finfo(float).tiny)
    return np.where(lower <= upper, ndtri(tail), -ndtri(tail))


def _moment_pulls(data: Source) -> np.ndarray:
    mean, sd = data.moments()
    without = int((~np.isfinite(sd) | ~np.isfinite(mean) | (sd <= 0) | data.is_constant()).sum())
    if without:
        raise ValueError(
            f"expected predictives of finite, positive variance for kind='moment', got {without} of {sd.size} without"
        )
    return (data.observed - mean) / sd
