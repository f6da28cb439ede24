"""Autoregressive chains, whose effective sample sizes are known."""

import math

import numpy as np
import xarray as xr


def autoregressive(coefficient: float, seed: int = 0) -> xr.DataArray:
    """Chains of an AR(1) of variance one, (chain, draw, row)."""
    noise = np.random.default_rng(seed).normal(size=(4, 2000, 3))
    values = noise.copy()
    for draw in range(1, values.shape[1]):
        values[:, draw] = coefficient * values[:, draw - 1] + math.sqrt(1 - coefficient**2) * noise[:, draw]
    return xr.DataArray(values, dims=("chain", "draw", "row"), name="f")
