"""The probability integral transform (PIT): u = F(y|x), with F the predictive distribution function.

If y follows p(y|x), then u is uniform on [0, 1], whatever the shape of p and however it changes with x (Rosenblatt
1952; Dawid 1984; Gneiting, Balabdaoui & Raftery 2007, section 3.1). Values that concentrate at both ends mean a
predictive that is too narrow; a concentration in the middle, one that is too wide; a slope, a bias. Uniformity is
necessary and not sufficient: a predictive that ignores x passes.

`pit` gives u for every observation, `posterity.inference.diagnostics.uniformity_test` tests all of them. For the
picture with its band, see `posterity.inference.diagnostics.calibration.ecdf`.

Judge held-out data: observations that were used for the fit draw the predictive towards themselves, and u towards 1/2.
"""

from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.reading import has_several_targets, read, require_mixture
from posterity.inference.diagnostics.sources.results import check_result
from posterity.validation import check_choice, check_finite, check_integer, check_seed

KINDS = ("cdf", "rank", "hdi")
RANKED = 999
"""Draws of a mixture for a rank, by default."""


def pit(
    source: object,
    y: Any = None,
    *,
    kind: str | None = None,
    draws: int | None = None,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """u = F(y|x) of every observation: ``pit`` = P(Y <= y) and ``pit_sf`` = P(Y > y), each in [0, 1].

    - ``"cdf"`` of a mixture is exact. Of counts, a random share of P(Y = y) is added to either side, which makes u
      uniform (Brockwell 2007). Both tails are computed by themselves, so that ``pit_sf`` of an outlier 12 standard
      deviations above is 1.8e-33 and not 0.
    - ``"rank"`` of draws is the randomised rank of y among the S draws, (#below + U (#ties + 1)) / (S + 1) with U
      uniform. It is exactly uniform if y and the draws are exchangeable, for continuous and discrete y and any S
      (Czado, Gneiting & Held 2009 for counts). The share of draws below y is not uniform, and is 0 or 1 for 2 in S + 1
      observations.
    - ``"hdi"`` of a mixture of one target or several is 1 less the level of the highest-density region on whose border
      y lies (see `region_level`): small if y is at an improbable place, also between two peaks.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data with ``posterior_predictive`` and
            ``observed_data``.
        y: observations (N,), which ArviZ data hold themselves.
        kind: "cdf", "rank" or "hdi"; by default "cdf" of a mixture and "rank" of draws.
        draws: draws of a mixture for "rank" (999 by default) and for "hdi" (see `region_level`).
        var_name: the observed variable of ArviZ data, if there are several.
        seed: seed of draws and of randomised ranks.

    Returns:
        A Dataset over "obs", or over the dimensions of the observed variable.

    Raises:
        ValueError: if shapes do not match, values are not finite, groups are missing, or the source does not allow
            ``kind``.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(3, 1))
    >>> pit(mixture, torch.tensor([-1.0, 0.0, 12.0])).pit.values.round(4)
    array([0.1587, 0.5   , 1.    ])
    """
    if kind is not None:
        check_choice("kind", kind, KINDS)
    seed = check_seed(seed)
    if draws is not None:
        check_integer("draws", draws, 1)
    data = read(source, y, var_name, several=kind == "hdi" and has_several_targets(source))
    kind = kind or data.default_pit_kind
    attrs: dict[str, str | int] = {"kind": kind, "num_draws": data.num_draws}
    if kind == "hdi":
        mixture = require_mixture(data, "kind='hdi'")
        draws = mixture.density_draws(draws)
        upper = mixture.density_rank(draws, seed)
        return data.dataset({"pit": 1 - upper, "pit_sf": upper}, **attrs, draws=draws, seed=seed)
    if kind == "cdf":
        lower, upper = require_mixture(data, "kind='cdf'").tails(seed)
        return data.dataset({"pit": lower, "pit_sf": upper}, **attrs)
    ranked = data.as_draws(draws or RANKED, seed)
    lower, upper = ranked.tails(seed)
    return data.dataset({"pit": lower, "pit_sf": upper}, **attrs, draws=ranked.num_draws, seed=seed)


def pit_array(pit_values: xr.Dataset) -> np.ndarray:
    """The values of ``pit`` (N,); ``ValueError`` if they are missing or not in [0, 1]."""
    values = check_result("pit", pit_values, "pit")["pit"].values.reshape(-1).astype(float)
    check_finite("pit", values)
    if values.size == 0 or values.min() < 0 or values.max() > 1:
        raise ValueError(f"expected at least one pit, all in [0, 1], got {values[:5].tolist()}")
    return values
