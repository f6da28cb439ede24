"""Where in function space trajectories diverge.

A divergent trajectory has met a place too curved for the step size, and what lies beyond it is missing from the draws.
Which place that is says what to change in the model. In the weights of a network it can hardly be seen: they are many,
and permuted from chain to chain. So it is looked for in what the network computes, function by function: are the draws
that diverged low or high there, near the middle or far out?
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.fft import irfft2, rfft2

from posterity.inference.convergence.statistics import THREADS, by_rank
from posterity.inference.diagnostics.sampling.convergence import by_name, read_draws, require_moving
from posterity.validation import check_finite, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2**18
"""How many draws a thread works on at once: 2 MiB for each intermediate result."""


def locate_divergences(values: Tensor | np.ndarray | xr.DataArray, diverging: Any) -> xr.Dataset:
    """How the draws that diverged differ from the others, over "point".

    ``values`` (chain, draw, points) are draws of functions in any unit, such as ``posterior.function_draws(x)``;
    ``diverging`` (chain, draw), true or false, is that of ``posterior.sample_stats``. DataArrays are read by the names
    chain and draw, and other dimensions of ``values`` become the points.

    - ``shift``: mean of the divergent draws less that of the others, in standard deviations of the others.
    - ``spread``: standard deviation of the divergent draws over that of the others; far below 1 in the neck of a
      funnel, where ``shift`` is 0. nan where only one draw diverged.
    - ``quantile``: the median divergent draw's place among all draws, in (0, 1).
    - ``location`` and ``scale``: the sum of the divergent draws' ranks, and that of their squared distances from the
      middle rank (Wilcoxon 1945; Mood 1954), each less its expectation and in units of its standard deviation were
      divergences nowhere in particular: below zero they are low, or near the middle.
    - ``strength``: the larger of both without signs. ``found.sortby("strength", ascending=False)`` has the place where
      they concentrate at the top.
    - ``p_value``, a scalar: of so large a ``strength`` at any of the points by chance, above 0.05 where divergences are
      nowhere in particular in these functions.

    Draws of a chain resemble their neighbours, and divergences come in bursts, so that tests for independent draws find
    places where there are none. Here the chances are those of all shifts of the chains' divergences, in steps of one
    draw and in steps of one chain, around the ends: they keep both resemblances and part what belongs together, and the
    largest over the points allows for their number (Westfall & Young 1993). Exact where chains are stationary and
    exchangeable; no smaller than 1 / (chains * draws).

    Raises ``ValueError`` for other shapes, DataArrays without chain and draw, values that are not finite real numbers
    or have a mask, points where no draw differs, ``diverging`` of anything but true and false, or where none or all of
    the draws diverged.

    >>> values = np.random.default_rng(0).normal(size=(4, 250, 2))
    >>> found = locate_divergences(values, values[..., 0] < -2)
    >>> bool(found["shift"][0] < -2), bool(abs(found["shift"][1]) < 0.5), round(float(found["p_value"]), 3)
    (True, True, 0.001)
    """
    array, hit = _checked(values, diverging)
    chains, draws, points = array.shape
    step = max(1, BLOCK // hit.size)

    def block(start: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        some = np.moveaxis(array[..., start : start + step], -1, 0)
        return _of_points(np.ascontiguousarray(some, dtype=float), hit)

    with ThreadPoolExecutor(THREADS) as pool:  # sorting and transforming leave Python's lock to the other
        parts = list(pool.map(block, range(0, points, step)))
    largest = np.max([of_shifts for _, of_shifts in parts], axis=0)
    p_value = float((largest >= largest[0, 0] * (1 - 1e-9)).mean())
    columns = {name: ("point", np.concatenate([found[name] for found, _ in parts])) for name in parts[0][0]}
    attrs = {"chains": chains, "draws": draws, "divergences": int(hit.sum()), "share": float(hit.mean())}
    return xr.Dataset({**columns, "p_value": p_value}, attrs=attrs)


def _of_points(block: np.ndarray, hit: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Of values (points, chain, draw): the variables (points,), and of every shift the strength at the strongest."""
    flat, where = block.reshape(len(block), -1), hit.ravel()
    of_hit, of_rest = flat[:, where], flat[:, ~where]
    wide = of_rest.std(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # nan where the others do not differ
        shift = (of_hit.mean(1) - of_rest.mean(1)) / wide
        spread = of_hit.std(1, ddof=1) / wide if of_hit.shape[1] > 1 else np.full(len(flat), np.nan)
    places = by_rank(flat, np.arange(0.5, hit.size, 0.5) / hit.size)  # in (0, 1), 1/2 in the middle
    spectrum = np.conj(rfft2(hit.astype(float)))
    location = _all_shifts((places - 0.5).reshape(block.shape), spectrum)
    scale = _all_shifts(((places - 0.5) ** 2).reshape(block.shape), spectrum)
    strength = np.maximum(np.abs(location), np.abs(scale))
    found = {
        "shift": shift,
        "spread": spread,
        "quantile": np.median(places[:, where], axis=1),
        "location": location[:, 0, 0].copy(),  # a view would keep every shift of every point
        "scale": scale[:, 0, 0].copy(),
        "strength": strength[:, 0, 0].copy(),
    }
    return found, strength.max(0)


def _all_shifts(scores: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Sums of the scores (points, chain, draw) over the divergent draws, shifted every way: standardised over these.

    The circular correlation with the divergences, by its transform. Zero where no sum differs from another.
    """
    centred = scores - scores.mean((1, 2), keepdims=True)
    sums = irfft2(rfft2(centred) * spectrum, s=scores.shape[1:])
    spread = sums.std((1, 2), keepdims=True)
    none = spread <= 1e-9 * np.abs(centred).sum((1, 2), keepdims=True)
    return np.where(none, 0.0, sums / np.where(none, 1.0, spread))


def _checked(values: Any, diverging: Any) -> tuple[np.ndarray, np.ndarray]:
    array = read_draws(values)
    named = isinstance(diverging, xr.DataArray | xr.Dataset)
    hit = to_numbers("diverging", by_name("diverging", diverging) if named else diverging)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"expected values of shape (chain, draw, points), got {array.shape}")
    if hit.shape != array.shape[:2]:
        raise ValueError(f"expected diverging of shape {array.shape[:2]}, (chain, draw), got {hit.shape}")
    check_finite("values", array)
    if not np.isin(hit, (0, 1)).all():
        raise ValueError("expected diverging as true or false for each draw, got other values")
    hit = hit.astype(bool)
    if hit.all() or not hit.any():
        raise ValueError(f"expected draws that diverged and others, got {int(hit.sum())} of {hit.size} that diverged")
    require_moving(array)
    return array, hit
