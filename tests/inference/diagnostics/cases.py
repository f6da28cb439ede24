"""A predictive with two peaks, and draws with their observations as ArviZ data."""

import numpy as np
import torch
import xarray as xr

from posterity.inference.arviz import from_groups
from posterity.models.mixtures import Mixture


def bimodal(n: int, width: float = 1.0) -> Mixture:
    """Two peaks whose weights and places change along the batch; ``width`` scales both."""
    x = torch.linspace(-2, 2, n).double()
    logits = torch.stack([x, -x], -1)
    loc = torch.stack([torch.sin(x) + 1.5, torch.cos(x) - 1.5], -1)
    return Mixture.normal(logits, loc, width * torch.tensor([0.5, 1.0]).double())


def arviz_data(draws: np.ndarray, y: np.ndarray, chains: int = 4) -> object:
    shape = (chains, len(draws) // chains, *y.shape)
    dims = [f"dim_{index}" for index in range(y.ndim)]
    coords = {dims[0]: np.arange(100, 100 + len(y))}
    return from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", *dims), draws.reshape(shape))}, coords),
            "observed_data": xr.Dataset({"y": (dims, y)}, coords),
        }
    )
