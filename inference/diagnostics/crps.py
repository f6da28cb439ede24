"""The continuous ranked probability score, in closed form for mixtures of normals and from draws for all else.

    CRPS(F, y) = integral (F(t) - 1{t >= y})² dt = E|Y - y| - 1/2 E|Y - Y'|      (Gneiting & Raftery 2007, eq. 21)

in units of y; lower is better, and for a point prediction it is the absolute error.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.inference.diagnostics._rows import BLOCK, by_rows
from posterity.models.mixtures import Mixture

PAIR_BUDGET = 3e8
"""Up to this many pairs of components, over all observations, the closed form is used: some 3 s on one core."""


def has_closed_form(mixture: Mixture) -> bool:
    """Whether the components are normal and N K² stays within `PAIR_BUDGET`."""
    pairs = mixture.batch_shape[0] * float(mixture.num_components) ** 2
    return isinstance(mixture.component_distribution, Normal) and pairs <= PAIR_BUDGET


def crps_normal_mixture(mixture: Mixture, y: Tensor) -> np.ndarray:
    """CRPS (N,) of a mixture of normals of batch shape (N,) at y (N,), in units of y.

        sum_i w_i A(y - mu_i, s_i²) - 1/2 sum_ij w_i w_j A(mu_i - mu_j, s_i² + s_j²),
        A(m, s²) = E|N(m, s²)| = 2 s phi(m/s) + m (2 Phi(m/s) - 1)

    (Grimit, Gneiting, Berrocal & Johnson 2006, Q. J. R. Meteorol. Soc. 132, eq. 5). The pairs are taken in blocks,
    so memory is bounded for any number of components.
    """
    return by_rows(mixture, lambda part, rows: _closed_form(part, y[rows]), per_row=min(mixture.num_components, BLOCK))


def crps_from_draws(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CRPS (N,) estimated from M >= 2 draws (M, N) of the predictive, in units of y; unbiased for any M.

        1/M sum |x_i - y| + b0 - 2 b1,     b0 = mean(x),  b1 = sum_i (i - 1) x_(i) / (M (M - 1))

    with sorted draws x_(i), the estimator by probability-weighted moments (Zamo & Naveau 2018, Math. Geosci. 50,
    209-234), which equals the fair one, E|Y - Y'| over pairs of different draws (Ferro 2014), in O(M log M).
    Raises ``ValueError`` for fewer than two draws.
    """
    count = len(draws)
    if count < 2:
        raise ValueError(f"expected at least 2 draws for the CRPS, got {count}")
    centred = draws - y
    ranked = np.sort(centred, axis=0)
    weights = (np.arange(count) / (count * (count - 1)))[:, None]
    return np.abs(centred).mean(0) + centred.mean(0) - 2 * (weights * ranked).sum(0)


def _closed_form(mixture: Mixture, y: Tensor) -> Tensor:
    weights, components = mixture.log_weights.exp(), mixture.component_distribution
    loc, variance = components.loc, components.scale**2
    distance = (weights * _mean_absolute(y.unsqueeze(-1) - loc, variance)).sum(-1)
    spread = torch.zeros_like(distance)
    step = max(1, min(BLOCK // loc.numel(), math.ceil(loc.shape[-1] / 8)))
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
