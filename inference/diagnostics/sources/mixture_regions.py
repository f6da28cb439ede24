"""Highest-density regions of a mixture, and the distance of y from them. Needs torch."""

import math

import numpy as np
import torch
from torch import Tensor

from posterity.models.mixtures import Mixture
from posterity.models.mixtures.row_chunks import by_rows


def highest_density(mixture: Mixture, y: Tensor, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length of the region, distance of y (N,) from it (0 inside), and number of its intervals: each (N,)."""

    def evaluate(part: Mixture, rows: slice) -> Tensor:
        region, at = part.hdr(level), y[rows].unsqueeze(-1)
        away = torch.maximum(region.lower - at, at - region.upper).clamp_min(0)
        # Missing intervals are nan, and so is the distance of a missing y.
        away = away.masked_fill(region.lower.isnan(), math.inf).amin(-1)
        return torch.stack([region.length, away, region.count.double()])

    length, distance, count = by_rows(mixture, evaluate)
    return length, distance, count
