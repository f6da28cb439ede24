"""Convergence of the sampler, judged on functions.

The weights of a network may be permuted without changing what it computes, so chains that agree on every
prediction can disagree on every weight, and R-hat of a weight says nothing. What is used is f(x*), so that is
what has to converge: a grid of x* that covers the data and the region of interest, and the log density as one
more "point".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sampling._chains import convergence
from posterity.inference.diagnostics.sources.checks import require_finite, to_array

if TYPE_CHECKING:
    from torch import Tensor


def function_convergence(values: Tensor | np.ndarray) -> xr.Dataset:
    """R-hat and effective sample sizes of functions of the posterior, over "point".

    ``values`` (chain, draw, points) are the draws of f(x*) in any unit, with at least 2 chains of 4 draws.

    - ``rhat``: rank-normalised split R-hat, the larger of bulk and folded; below 1.01 is good.
    - ``ess_bulk``, ``ess_tail``: effective number of draws for the middle, and for the 5 % and 95 % quantiles;
      below 100 for each chain the estimates are themselves uncertain.

    The numbers are those of ArviZ (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, arXiv:1903.08008), for all
    points at once.
    Raises ``ValueError`` for another shape, values that are not finite, or points where no draw differs.

    >>> draws = np.random.default_rng(0).normal(size=(4, 200, 3))
    >>> bool((function_convergence(draws).rhat < 1.02).all())
    True
    """
    array = to_array(values).astype(float)
    if array.ndim != 3 or array.shape[0] < 2 or array.shape[1] < 4 or array.shape[2] < 1:
        raise ValueError(f"expected values of shape (chain >= 2, draw >= 4, points), got {array.shape}")
    require_finite("values", array)
    still = int((np.ptp(array, axis=(0, 1)) == 0).sum())
    if still:
        raise ValueError(f"expected values that differ between draws, got {still} points at which none does")
    found = convergence(array)
    attrs = {"chains": array.shape[0], "draws": array.shape[1]}
    return xr.Dataset({name: ("point", column) for name, column in found.items()}, attrs=attrs)
