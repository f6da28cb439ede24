"""Convergence of the sampler, judged on functions.

The weights of a network may be permuted without changing what it computes, so chains that agree on every
prediction can disagree on every weight, and R-hat of a weight says nothing. What is used is f(x*), so that is
what has to converge: a grid of x* that covers the data and the region of interest, and the log density as one
more "point".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from posterity.inference.convergence.statistics import convergence
from posterity.inference.convergence.thresholds import RHAT_DRAWS
from posterity.validation import check_finite, to_array, to_numbers

if TYPE_CHECKING:
    from torch import Tensor


def function_convergence(values: Tensor | np.ndarray | xr.DataArray) -> xr.Dataset:
    """R-hat and effective sample sizes of functions of the posterior, over "point".

    ``values`` (chain, draw, points) are the draws of f(x*) in any unit, with at least 2 chains of 4 draws, or a
    DataArray with the dimensions chain, draw and any others, which become the points.

    - ``rhat``: rank-normalised split R-hat, the larger of bulk and folded; below 1.01 is good.
    - ``ess_bulk``, ``ess_tail``: effective number of draws for the middle, and for the 5 % and 95 % quantiles;
      below 100 for each chain the estimates are themselves uncertain.

    The numbers are those of ArviZ (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, arXiv:1903.08008), for all
    points at once.
    Raises ``ValueError`` for another shape, a DataArray without these dimensions, values that are not finite real
    numbers or have a mask, or points where no draw differs.

    >>> draws = np.random.default_rng(0).normal(size=(4, 200, 3))
    >>> bool((function_convergence(draws).rhat < 1.02).all())
    True
    """
    array = read_draws(values)
    if array.ndim != 3 or array.shape[0] < 2 or array.shape[1] < RHAT_DRAWS or array.shape[2] < 1:
        raise ValueError(f"expected values of shape (chain >= 2, draw >= {RHAT_DRAWS}, points), got {array.shape}")
    check_finite("values", array)
    require_moving(array)
    found = convergence(array)
    attrs = {"chains": array.shape[0], "draws": array.shape[1]}
    return xr.Dataset({name: ("point", column) for name, column in found.items()}, attrs=attrs)


def read_draws(values: Tensor | np.ndarray | xr.DataArray) -> np.ndarray:
    """Draws (chain, draw, points), of a DataArray by the names of its dimensions; floats keep their precision."""
    if isinstance(values, xr.DataArray | xr.Dataset):
        values = by_name("values", values)
        values = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    array = to_array(values, "values")
    return array if array.dtype.kind == "f" else to_numbers("values", array)


def by_name(name: str, values: xr.DataArray | xr.Dataset) -> np.ndarray:
    """The array (chain, draw, ...) of a DataArray, in whatever order its dimensions are."""
    if isinstance(values, xr.Dataset) or not {"chain", "draw"} <= set(values.dims):
        got = "a Dataset" if isinstance(values, xr.Dataset) else values.dims
        raise ValueError(f"expected {name} as a DataArray with the dimensions chain and draw, got {got}")
    return values.transpose("chain", "draw", ...).values


def require_moving(array: np.ndarray) -> None:
    """``ValueError`` that counts the points of (chain, draw, points) at which all draws are equal, if any are."""
    still = int((array == array[0, 0]).all((0, 1)).sum())
    if still:
        raise ValueError(f"expected values that differ between draws, got {still} points at which none does")
