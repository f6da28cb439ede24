"""The closed form of the CRPS of normal mixtures: see `posterity.inference.diagnostics.scoring.crps`."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models.mixtures import Mixture
from posterity.models.mixtures.row_chunks import CHUNK, by_rows


def closed_form(mixture: Mixture, y: Tensor) -> np.ndarray:
    """CRPS (N,) of normal components, whatever their number."""
    return by_rows(mixture, lambda part, rows: _closed_form(part, y[rows]), per_row=min(mixture.num_components, CHUNK))


def is_normal(mixture: Mixture) -> bool:
    """Whether the components are normal."""
    return isinstance(mixture.component_distribution, Normal)


def _closed_form(mixture: Mixture, y: Tensor) -> Tensor:
    weights, components = mixture.log_weights.exp(), mixture.component_distribution
    loc, variance = components.loc, components.scale**2
    distance = (weights * _mean_absolute(y.unsqueeze(-1) - loc, variance)).sum(-1)
    spread = torch.zeros_like(distance)
    step = max(1, min(CHUNK // loc.numel(), math.ceil(loc.shape[-1] / 8)))
    for start in range(0, loc.shape[-1], step):
        # Pairs are symmetric: those of a block with what comes after it count twice, those within it stand once.
        some, rest = slice(start, start + step), slice(start, None)
        partner = torch.cat([weights[..., some], 2 * weights[..., start + step :]], -1)
        between = _mean_absolute(
            loc[..., some, None] - loc[..., None, rest], variance[..., some, None] + variance[..., None, rest]
        )
        spread += (weights[..., some] * (between @ partner.unsqueeze(-1)).squeeze(-1)).sum(-1)
    return distance - 0.5 * spread


def _mean_absolute(mean: Tensor, variance: Tensor) -> Tensor:
    """E|N(mean, variance)|."""
    sd = variance.sqrt()
    ratio = mean / sd
    density = torch.exp(-0.5 * ratio**2) * math.sqrt(2 / math.pi)
    return sd * (density + ratio * torch.erf(ratio * math.sqrt(0.5)))
