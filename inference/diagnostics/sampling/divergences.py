"""Places in function space at which trajectories diverge.

A divergent trajectory has met a region too curved for the step size, and the draws do not reach beyond it. The place of
the region tells what to change in the model. In the weights of a network the place is hardly visible, since weights are
many and permuted from chain to chain. So it is located in the functions that the network computes, one by one: are the
divergent draws low or high, near the middle or far out?
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.fft import irfft2, rfft2

from posterity.inference.convergence.statistics import THREADS, by_rank
from posterity.inference.diagnostics.sampling.convergence import array_by_name, read_draws, require_moving
from posterity.validation import check_finite, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**18
"""Number of draws in a chunk of functions, one chunk per thread: 2 MiB for each intermediate result."""


def locate_divergences(values: Tensor | np.ndarray | xr.DataArray, diverging: Any) -> xr.Dataset:
    """How divergent draws differ from the others, over "point".

    ``values`` (chain, draw, points) are draws of functions in any unit, such as ``posterior.function_draws(x)``;
    ``diverging`` (chain, draw), true or false, is that of ``posterior.sample_stats``. DataArrays are read by the names
    chain and draw, and other dimensions of ``values`` become the points.

    - ``shift``: mean of the divergent draws less that of the others, in standard deviations of the others.
    - ``spread``: standard deviation of the divergent draws over that of the others; far below 1 in the neck of a
      funnel, where ``shift`` is 0. nan if only one draw diverged.
    - ``quantile``: the place of the median divergent draw among all draws, in (0, 1).
    - ``location`` and ``scale``: the sum of the ranks of divergent draws, and of their squared distances from the
      middle rank (Wilcoxon 1945; Mood 1954), each less its expectation and in units of its standard deviation if
      divergences were at random places; below zero the divergent draws are low, or near the middle.
    - ``strength``: the larger absolute value of the two. ``found.sortby("strength", ascending=False)`` begins with the
      point at which divergences concentrate.
    - ``p_value``, a scalar: probability of so large a ``strength`` at any point by chance.

    Draws of a chain are correlated, and divergences come in bursts, so tests for independent draws find places where
    there are none. Here the null distribution consists of all cyclic shifts of the divergences, by draws and by chains:
    they keep both correlations and break the relation between them, and the maximum over the points allows for their
    number (Westfall & Young 1993). The test is exact if chains are stationary and exchangeable; the p-value is at least
    1 / (chains * draws).

    Raises:
        ValueError: if shapes or dimensions do not match, values are masked or not finite real numbers, all draws of a
            point are equal, ``diverging`` is not true or false, or none or all of the draws diverged.

    >>> values = np.random.default_rng(0).normal(size=(4, 250, 2))
    >>> found = locate_divergences(values, values[..., 0] < -2)
    >>> bool(found["shift"][0] < -2), bool(abs(found["shift"][1]) < 0.5), round(float(found["p_value"]), 3)
    (True, True, 0.001)
    """
    array, hit = _checked(values, diverging)
    chains, draws, points = array.shape
    step = max(1, CHUNK // hit.size)

    def chunk(start: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        some = np.moveaxis(array[..., start : start + step], -1, 0)
        return _of_points(np.ascontiguousarray(some, dtype=float), hit)

    with ThreadPoolExecutor(THREADS) as pool:  # sorting and Fourier transforms release Python's lock
        parts = list(pool.map(chunk, range(0, points, step)))
    largest = np.max([of_shifts for _, of_shifts in parts], axis=0)
    p_value = float((largest >= largest[0, 0] * (1 - 1e-9)).mean())
    columns = {name: ("point", np.concatenate([part[name] for part, _ in parts])) for name in parts[0][0]}
    attrs = {"chains": chains, "draws": draws, "divergences": int(hit.sum()), "share": float(hit.mean())}
    return xr.Dataset({**columns, "p_value": p_value}, attrs=attrs)


def _of_points(values: np.ndarray, hit: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Variables (points,) of values (points, chain, draw), and the largest strength of each shift (chain, draw)."""
    flat, where = values.reshape(len(values), -1), hit.ravel()
    divergent, others = flat[:, where], flat[:, ~where]
    sd = others.std(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # nan if the others are equal
        shift = (divergent.mean(1) - others.mean(1)) / sd
        spread = divergent.std(1, ddof=1) / sd if divergent.shape[1] > 1 else np.full(len(flat), np.nan)
    places = by_rank(flat, np.arange(0.5, hit.size, 0.5) / hit.size)  # in (0, 1), 1/2 in the middle
    spectrum = np.conj(rfft2(hit.astype(float)))
    location = _all_shifts((places - 0.5).reshape(values.shape), spectrum)
    scale = _all_shifts(((places - 0.5) ** 2).reshape(values.shape), spectrum)
    strength = np.maximum(np.abs(location), np.abs(scale))
    columns = {
        "shift": shift,
        "spread": spread,
        "quantile": np.median(places[:, where], axis=1),
        "location": location[:, 0, 0].copy(),  # a view would keep every shift of every point
        "scale": scale[:, 0, 0].copy(),
        "strength": strength[:, 0, 0].copy(),
    }
    return columns, strength.max(0)


def _all_shifts(scores: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Standardised sums of scores (points, chain, draw) over the divergent draws, for every cyclic shift of them.

    The sums are a circular correlation, computed by Fourier transform. Zero if all sums are equal.
    """
    centred = scores - scores.mean((1, 2), keepdims=True)
    sums = irfft2(rfft2(centred) * spectrum, s=scores.shape[1:])
    spread = sums.std((1, 2), keepdims=True)
    none = spread <= 1e-9 * np.abs(centred).sum((1, 2), keepdims=True)
    return np.where(none, 0.0, sums / np.where(none, 1.0, spread))


def _checked(values: Any, diverging: Any) -> tuple[np.ndarray, np.ndarray]:
    array = read_draws(values)
    named = isinstance(diverging, xr.DataArray | xr.Dataset)
    hit = to_numbers("diverging", array_by_name("diverging", diverging) if named else diverging)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"expected values of shape (chain, draw, points), got {array.shape}")
    if hit.shape != array.shape[:2]:
        raise ValueError(f"expected diverging of shape {array.shape[:2]}, (chain, draw), got {hit.shape}")
    check_finite("values", array)
    if not np.isin(hit, (0, 1)).all():
        raise ValueError("expected diverging to be true or false for each draw, got other values")
    hit = hit.astype(bool)
    if hit.all() or not hit.any():
        raise ValueError(
            f"expected some draws that diverged, and others, got {int(hit.sum())} of {hit.size} that diverged"
        )
    require_moving(array)
    return array, hit
