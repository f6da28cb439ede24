"""Tests of accuracy with random points (TARP): are the posteriors right in all dimensions together?

Take the ball around a reference point that has the truth on its surface, and the share of the posterior inside it. If
the posteriors are exact, this share is uniform on [0, 1] over data sets, for every reference, distance and number of
dimensions. Conversely, if it is uniform for every reference that may depend on the data, the posteriors are exact
(Lemos, Coogan, Hezaveh & Perreault-Levasseur 2023, arXiv:2302.03026, theorems 2 and 3). The test needs draws only, no
densities.

It matters that the reference may depend on the data: with a reference that does not, a posterior that ignores the data
and equals the prior passes the test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.regions import LEVELS, coverage
from posterity.inference.diagnostics.simulation.sbc import source_of
from posterity.random import generator
from posterity.validation import check_finite, check_seed, to_numbers

REFERENCES = ("prior", "neighbour")
CHUNK = 2**22
"""Number of elements that are computed at once."""


def tarp(
    source: Any,
    *args: Any,
    references: Any = "prior",
    data: Any = None,
    quantities: Sequence[str] | None = None,
    levels: Sequence[float] = LEVELS,
    confidence: float = 0.95,
    seed: int = 0,
    **settings: Any,
) -> xr.Dataset:
    """Expected coverage of balls around random points, against their level: a result that `plot_coverage` takes.

    There are three calls:

    - ``tarp(samples, truths)`` takes posterior draws (L, simulation, D), or (L, simulation), and the truths
      (simulation, D) that made the data, as arrays or tensors.
    - ``tarp(refits)`` takes the result of `refit`.
    - ``tarp(model, *inputs, method=..., count=...)`` calls `refit` first.

    Distances between points, and between data, are Euclidean. Each dimension is in units of its spread over the
    simulations: its interquartile range, or its standard deviation if that range is 0.

    Args:
        source: posterior draws, refits or a model.
        args: the truths, or the inputs of the model.
        references: "prior", the truth of another simulation, drawn at random; "neighbour", the truth of the simulation
            with the closest data, which detects a posterior that uses too little of the data; or an array (simulation,
            D) of points that may depend on the data but not on the truth. Both names choose among earlier simulations,
            and the first simulation gets the median of all truths: if two simulations were each other's reference,
            their distances would be equal, and a test for independent values would reject exact posteriors too often.
        data: the data (simulation, ...), beside samples and truths with ``references="neighbour"``.
        quantities: names of quantities of the refits, by default all but the log likelihood.
        levels: levels of the balls, in (0, 1).
        confidence: level of the limits of the coverage.
        seed: seed of the references and of the randomised ranks, and with a model of `refit`.
        settings: with a model, those of `refit`.

    Returns:
        Over "level": ``coverage``, the share of simulations whose truth is within the ball of that level, with
        Clopper-Pearson limits ``lower`` and ``upper`` for each level alone (the bootstrap of the paper gives binomial
        counts too, but limits without width if all or no truths are inside). Over "simulation": ``ball``, the
        randomised share of draws nearer to the reference than the truth. ``p_value`` is the Kolmogorov-Smirnov test of
        its uniformity. A curve that is steep at both ends means posteriors that are too narrow or biased; one that is
        flat there means too wide. `sbc` detects a bias along one of many directions better.

    Raises:
        ValueError: Shapes do not fit, values are not finite real numbers or have a mask, there are fewer than 2
            simulations, all truths are equal in a dimension, references or quantities are unknown; and as `coverage`
            and `refit`.

    >>> rng = np.random.default_rng(0)
    >>> centre = rng.normal(size=(300, 2))
    >>> result = tarp(centre + rng.normal(size=(99, 300, 2)), centre + rng.normal(size=(300, 2)))
    >>> bool(result.p_value > 0.01), result.coverage.dims
    (True, ('level',))
    """
    seed = check_seed(seed)
    levels = to_numbers("levels", levels).tolist()
    coords: dict[str, Any] = {}
    attrs: dict[str, Any] = {}
    if isinstance(source, xr.Dataset) or not (hasattr(source, "detach") or isinstance(source, np.ndarray | list)):
        if data is not None:
            raise ValueError("expected data only with arrays of samples and truths, since refits contain their data")
        refits = source_of(source, args, seed, settings)
        samples, truths, names = _of_refits(refits, quantities)
        data = refits["y"].values if "y" in refits else None
        coords, attrs = {"simulation": refits["simulation"].values}, {**refits.attrs, "quantities": ", ".join(names)}
    else:
        if len(args) != 1 or settings or quantities is not None:
            raise ValueError(f"expected samples and truths, got {1 + len(args)} arrays and {sorted(settings)}")
        samples, truths = to_numbers("samples", source), to_numbers("truths", args[0])
    samples, truths = _checked(samples, truths)
    rng = generator(seed, "references and ranks of balls")
    centre, spread = _scale(truths, "truths that differ")
    points = _references(references, truths, centre, data, rng)
    ball = _balls(samples, truths, points, spread, rng)
    attrs |= {"references": references if isinstance(references, str) else "given", "draws": len(samples), "seed": seed}
    found = coverage(
        xr.Dataset({"level": ("simulation", ball)}, attrs={**attrs, "kind": "tarp"}),
        levels=levels,
        confidence=confidence,
    )
    p_value = float(stats.kstest(ball, "uniform").pvalue)
    return found.assign(ball=("simulation", ball), p_value=p_value).assign_coords(coords)


def _of_refits(refits: xr.Dataset, quantities: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    names = [str(name) for name in refits["quantity"].values]
    if quantities is not None and (isinstance(quantities, str) or not isinstance(quantities, Iterable)):
        raise ValueError(f"expected quantities from {names}, got {quantities!r}")
    wanted = list(quantities) if quantities is not None else [n for n in names if n != "log_likelihood"] or names
    if not wanted or not all(name in names for name in wanted):
        raise ValueError(f"expected quantities from {names}, got {quantities!r}")
    places = [names.index(name) for name in wanted]
    return refits["draws"].values[..., places].swapaxes(0, 1), refits["truth"].values[:, places], wanted


def _checked(samples: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if samples.ndim == 2 and truths.ndim == 1:
        samples, truths = samples[..., None], truths[:, None]
    if samples.ndim != 3 or truths.ndim != 2 or samples.shape[1:] != truths.shape or 0 in samples.shape:
        raise ValueError(
            f"expected samples (draws, simulations, D) and truths (simulations, D), got {samples.shape} and "
            f"{truths.shape}"
        )
    if len(truths) < 2:
        raise ValueError(f"expected at least 2 simulations, got {len(truths)}")
    check_finite("samples", samples)
    check_finite("truths", truths)
    return samples, truths


def _scale(values: np.ndarray, wanted: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of the columns (simulation, D). A constant one is an error if ``wanted``, else has spread 1."""
    low, centre, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    spread = (high - low) / 1.349  # of a normal: its standard deviation
    spread = np.where(spread > 0, spread, values.std(0))
    still = np.flatnonzero(spread == 0)
    if wanted is not None and len(still):
        raise ValueError(f"expected {wanted}, got equal ones in the dimensions {still.tolist()}")
    return centre, np.where(spread > 0, spread, 1.0)


def _references(
    references: Any, truths: np.ndarray, centre: np.ndarray, data: Any, rng: np.random.Generator
) -> np.ndarray:
    """A reference (D,) for each simulation.

    With references from earlier simulations, each ball is uniform given all data and the truths before it, so the
    balls are independent.
    """
    count = len(truths)
    if isinstance(references, str):
        if references not in REFERENCES:
            raise ValueError(f"expected references to be 'prior', 'neighbour' or an array, got {references!r}")
        if references == "neighbour" and data is None:
            raise ValueError("expected data of each simulation for references='neighbour', got None")
        earlier = _nearest(to_numbers("data", data), count) if references == "neighbour" else None
        if earlier is None:
            earlier = rng.integers(0, np.maximum(np.arange(count), 1))
        return np.concatenate([centre[None], truths[earlier[1:]]])
    points = to_numbers("references", references)
    points = points[:, None] if points.ndim == 1 else points
    if points.shape != truths.shape:
        raise ValueError(f"expected references of shape {truths.shape}, got {points.shape}")
    check_finite("references", points)
    return points


def _nearest(data: np.ndarray, count: int) -> np.ndarray:
    """For each simulation the earlier one whose data are closest; 0 for the first."""
    if data.ndim < 1 or len(data) != count:
        raise ValueError(f"expected data of {count} simulations, got shape {data.shape}")
    flat = data.reshape(count, -1)
    check_finite("data", flat)
    centre, spread = _scale(flat, None)
    flat = (flat - centre) / spread
    nearest = np.empty(count, dtype=int)
    step = max(1, CHUNK // flat.size)
    for begin in range(0, count, step):
        rows = np.arange(begin, min(begin + step, count))
        distance = ((flat[rows, None] - flat) ** 2).sum(-1)
        distance[rows[:, None] <= np.arange(count)] = np.inf
        nearest[rows] = distance.argmin(1)
    return nearest


def _balls(
    samples: np.ndarray, truths: np.ndarray, points: np.ndarray, spread: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Randomised rank in (0, 1) of the truth's distance from its reference among those of the draws."""
    own = (((truths - points) / spread) ** 2).sum(-1)
    below, slots = np.empty(len(own)), np.empty(len(own))
    step = max(1, CHUNK // max(1, samples[:, 0].size))
    for begin in range(0, len(own), step):
        rows = slice(begin, begin + step)
        distance = (((samples[:, rows] - points[rows]) / spread) ** 2).sum(-1)
        below[rows] = (distance < own[rows]).sum(0)
        slots[rows] = (distance == own[rows]).sum(0) + 1
    return (below + rng.random(len(own)) * slots) / (len(samples) + 1)
