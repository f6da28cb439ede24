"""The probability integral transform: is y as often in every part of its predictive distribution as it should be?

If y follows p(y|x), then u = F(y|x) is uniform on [0, 1], whatever the shape of p and however it changes with x
(Rosenblatt 1952; Dawid 1984; Gneiting, Balabdaoui & Raftery 2007, section 3.1). Values that pile up at both ends
mean a predictive that is too narrow; a heap in the middle one that is too wide; a slope a bias. Uniformity is
necessary and not sufficient: a predictive that ignores x passes.

`pit` gives u for every observation, `pit_uniformity` one test of all of them. For the picture with its band, see
`posterity.inference.diagnostics.ecdf`.

Judge held-out data: y that has been used for the fit draws the predictive towards itself, and u towards 1/2.
"""

import numpy as np
import xarray as xr
from scipy import stats
from torch import Tensor

from posterity.inference.diagnostics._source import DrawsSource, read, require_finite


def pit(source: object, y: Tensor | None = None, *, var_name: str | None = None, seed: int = 0) -> xr.Dataset:
    """u = F(y|x) of every observation: ``pit`` = P(Y <= y) and ``pit_sf`` = P(Y > y), each in [0, 1].

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), or ArviZ data with ``posterior_predictive`` and
    ``observed_data`` (``var_name`` chooses the variable where there are several).

    - Mixture: exact. Both tails are computed by themselves, so that ``pit_sf`` of an outlier 12 standard
      deviations above is 1.8e-33 and not 0. ``seed`` is not used.
    - ArviZ data: the randomised rank of y among the S draws, (#below + U (#ties + 1)) / (S + 1) with U uniform
      from ``seed``. It is exactly uniform where y and the draws are exchangeable, for continuous and discrete y
      and any S (Czado, Gneiting & Held 2009 for counts).

    Returns a Dataset over "obs", or over the dimensions of the observed variable.
    Raises ``ValueError`` for y of another shape, values that are not finite, or missing groups.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(3, 1))
    >>> pit(mixture, torch.tensor([-1.0, 0.0, 12.0])).pit.values.round(4)
    array([0.1587, 0.5   , 1.    ])
    """
    data = read(source, y, var_name)
    lower, upper = data.tails(seed)
    attrs: dict[str, str | int] = {"method": "exact", "num_draws": data.num_draws}
    if isinstance(data, DrawsSource):
        attrs |= {"method": "randomised rank", "seed": seed}
    return data.dataset({"pit": lower, "pit_sf": upper}, **attrs)


def pit_uniformity(pit_values: xr.Dataset) -> xr.Dataset:
    """Kolmogorov-Smirnov test of the uniformity of ``pit``: scalars ``statistic``, ``p_value``, ``n``.

    The statistic is the largest distance between the empirical distribution function and the diagonal. It is most
    sensitive in the middle: for departures in the tails look at the pulls and at `pit_ecdf`.
    Raises ``ValueError`` where the dataset has no ``pit``.

    >>> values = xr.Dataset({"pit": ("obs", (np.arange(100) + 0.5) / 100)})
    >>> round(float(pit_uniformity(values).statistic), 6), int(pit_uniformity(values).n)
    (0.005, 100)
    """
    values = pit_array(pit_values)
    result = stats.kstest(values, "uniform")
    return xr.Dataset(
        {"statistic": float(result.statistic), "p_value": float(result.pvalue), "n": values.size},
        attrs={"test": "Kolmogorov-Smirnov"},
    )


def pit_array(pit_values: xr.Dataset) -> np.ndarray:
    """The values of ``pit`` (N,); ``ValueError`` unless they are there and in [0, 1]."""
    if not isinstance(pit_values, xr.Dataset) or "pit" not in pit_values:
        got = list(pit_values.data_vars) if isinstance(pit_values, xr.Dataset) else type(pit_values).__name__
        raise ValueError(f"expected a Dataset with a variable 'pit', as pit() returns, got {got}")
    values = pit_values["pit"].values.reshape(-1).astype(float)
    require_finite("pit", values)
    if values.size == 0 or values.min() < 0 or values.max() > 1:
        raise ValueError(f"expected at least one pit, all in [0, 1], got {values[:5].tolist()}")
    return values
