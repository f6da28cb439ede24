r"""The continuous ranked probability score of mixtures of normals in closed form.

With $A(\mu, \sigma^2) = E|N(\mu, \sigma^2)| = 2 \sigma \varphi(\mu/\sigma) + \mu (2 \Phi(\mu/\sigma) - 1)$,

$$\mathrm{CRPS} = \sum_i w_i A(y - \mu_i, \sigma_i^2)
  - \tfrac{1}{2} \sum_{ij} w_i w_j A(\mu_i - \mu_j, \sigma_i^2 + \sigma_j^2)$$

(Grimit, Gneiting, Berrocal & Johnson 2006, Q. J. R. Meteorol. Soc. 132, eq. 5).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models.mixtures import Mixture
from posterity.models.mixtures.row_chunks import CHUNK, by_rows


def closed_form(mixture: Mixture, y: Tensor) -> np.ndarray:
    """CRPS (N,) of normal components at y (N,), in units of y; memory is bounded for any number of components."""
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
        # Pairs are symmetric: those of a chunk with later components count twice, those within the chunk once.
        chunk, rest = slice(start, start + step), slice(start, None)
        partner = torch.cat([weights[..., chunk], 2 * weights[..., start + step :]], -1)
        between = _mean_absolute(
            loc[..., chunk, None] - loc[..., None, rest], variance[..., chunk, None] + variance[..., None, rest]
        )
        spread += (weights[..., chunk] * (between @ partner.unsqueeze(-1)).squeeze(-1)).sum(-1)
    return distance - 0.5 * spread


def _mean_absolute(mean: Tensor, variance: Tensor) -> Tensor:
    """E|N(mean, variance)|."""
    sd = variance.sqrt()
    ratio = mean / sd
    density = torch.exp(-0.5 * ratio**2) * math.sqrt(2 / math.pi)
    return sd * (density + ratio * torch.erf(ratio * math.sqrt(0.5)))
