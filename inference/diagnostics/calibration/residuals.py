"""Pulls: by how many standard deviations is y off, and is that as often as it should be?

A pull is a residual in units of its predicted error. Over many observations a correct model has pulls of mean 0
and width 1: a width of 1.25 says that the predicted errors are 20 % too small. What "a standard deviation" is
where the predictive is not normal is a choice, made by ``kind``:

- ``"gaussianised"`` (default): z = Phi^-1(F(y|x)), exactly N(0, 1) for any correct continuous predictive.
- ``"moment"``: (y - mean) / sd. Mean 0 and width 1 for a correct model, but not normal: where the predictive has
  two peaks, so have the pulls.
- ``"component"``: (y - mu_k) / sigma_k for one component k of a mixture of normals, *drawn* from the
  responsibilities P(k | y, x). If the model is correct, (k, y) is then a draw of the joint distribution of
  component and value, so that z is exactly N(0, 1). Taking the nearest or the most probable component instead
  reassigns the far tail of each component to its neighbour, and a correct model shows a width below 1 (0.90 is
  typical).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import ndtri

from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.validation import check_choice, check_finite, check_seed

if TYPE_CHECKING:
    from posterity.inference.diagnostics.sources.source import Source

KINDS = ("gaussianised", "moment", "component")


def pulls(
    source: object,
    y: Any = None,
    *,
    kind: str = "gaussianised",
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``pull`` of every observation, without unit; positive where y lies above the prediction.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), draws (S, N) of the predictive with ``y`` (N,), or
    ArviZ data with ``posterior_predictive`` and ``observed_data``. For the kinds, see the module.

    - ``"gaussianised"`` uses whichever tail of y is smaller, so that 12 standard deviations come out as 12. Tails
      below 2.2e-308 count as that, which limits pulls to ±37.5. From ArviZ data the PIT is a randomised rank among
      S draws (see `pit`; ``seed``), so pulls hardly exceed Phi^-1(1 - 1/S): ±3.3 for 1,000 draws.
    - ``"moment"`` needs a finite variance of the predictive, or draws that differ. Of S draws mean and variance are
      estimates, which widens the pulls of a right normal model by sqrt((1 + 1/S)(S - 1)/(S - 3)), 1.03 for 50.
    - ``"component"`` needs a mixture; the choice of ``component`` (N,) is returned as well, and depends on
      ``seed``.

    Raises ``ValueError`` for an unknown kind, a kind that the source cannot serve (of angles only "gaussianised" is),
    and as `pit`.

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
        chosen, values = require_mixture(data, "kind='component'").component_pulls(seed)
        return data.dataset({"pull": values, "component": chosen}, **attrs, seed=seed)
    if kind == "moment":
        return data.dataset({"pull": _moment_pulls(data)}, **attrs)
    if data.default_pit_kind == "rank":
        attrs["seed"] = seed
    return data.dataset({"pull": gaussianised(*data.tails(seed))}, **attrs)


def pull_array(pulls: xr.Dataset) -> np.ndarray:
    """The values of ``pull`` (N,), N >= 2; ``ValueError`` unless they are there and finite."""
    if not isinstance(pulls, xr.Dataset) or "pull" not in pulls:
        got = list(pulls.data_vars) if isinstance(pulls, xr.Dataset) else type(pulls).__name__
        raise ValueError(f"expected a Dataset with a variable 'pull', as pulls() returns, got {got}")
    values = pulls["pull"].values.reshape(-1).astype(float)
    check_finite("pulls", values)
    if values.size < 2:
        raise ValueError(f"expected at least 2 pulls, got {values.size}")
    return values


def gaussianised(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The normal quantile, from the smaller tail: 1 - 1e-20 is not a number, 1e-20 is."""
    tail = np.maximum(np.minimum(lower, upper), np.finfo(float).tiny)
    return np.where(lower <= upper, ndtri(tail), -ndtri(tail))


def _moment_pulls(data: Source) -> np.ndarray:
    mean, sd = data.moments()
    bad = int((~np.isfinite(sd) | ~np.isfinite(mean) | (sd <= 0) | data.is_constant()).sum())
    if bad:
        raise ValueError(
            f"expected predictives of finite, positive variance for kind='moment', got {bad} of {sd.size} without"
        )
    return (data.observed - mean) / sd
