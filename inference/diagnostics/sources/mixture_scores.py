"""The derivatives of a mixture's log density by widths, places and weights of its components: see `mixture_tests`."""

import math
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.row_chunks import row_chunks
from posterity.random import seeded

SIMULATED = 40_000
"""About how many values are drawn from the model for the covariance of the scores, and one a row at least: some 3 %."""

DENSITIES = 6e7
"""As many component densities are taken for them, so that very many components have fewer values."""


def scores(data: MixtureSource, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum (3 K) and expected covariance (3 K, 3 K) of the scores, and mean weights (K).

    The scores are those of log width, place (in widths) and log odds, in this order, of each of the K components of a
    draw: the same change for all rows and draws. The covariance is that of the sum under the model.
    """
    mixture = data.mixture
    per_draw = mixture.num_components // data.num_draws
    affordable = int(DENSITIES / (len(data.y) * mixture.num_components))
    count = max(1, min(math.ceil(SIMULATED / len(data.y)), affordable))
    total, covariance = torch.zeros(3 * per_draw).double(), torch.zeros(3 * per_draw, 3 * per_draw).double()
    weight = torch.zeros(per_draw).double()
    with torch.no_grad(), seeded(seed):
        for rows, part in row_chunks(mixture, 3 * count):
            total += _scores(part, data.y[rows], data.num_draws).sum(0)
            drawn = _scores(part, part.sample(Size([count])), data.num_draws)
            covariance += torch.einsum("sni,snj->ij", drawn, drawn) / count
            weight += _by_component(part.log_weights.exp(), data.num_draws).sum(0)
    return total.numpy(), covariance.numpy(), (weight / len(data.y)).numpy()


def _scores(mixture: Mixture, y: Tensor, num_draws: int) -> Tensor:
    """(..., N, 3 K)."""
    share = mixture.responsibilities(y)
    components = mixture.component_distribution
    z = standardise(components, y)
    slope = _slope(components, z)
    place = _by_component(share * slope, num_draws)
    width = _by_component(share * (z * slope - 1), num_draws)
    odds = _by_component(share, num_draws) - _by_component(mixture.log_weights.exp(), num_draws)
    return torch.cat([width, place, odds.expand(place.shape)], -1)


def _by_component(values: Tensor, num_draws: int) -> Tensor:
    """Summed over the draws: (..., S K) to (..., K)."""
    return values.unflatten(-1, (num_draws, -1)).sum(-2)


def standardise(components: Any, y: Tensor) -> Tensor:
    """y (..., N) in widths from the place of each component, (..., N, K)."""
    value = y.unsqueeze(-1)
    if type(components).__name__ == "LogNormal":
        value = value.log()
    return (value - components.loc) / components.scale


def log_shape(components: Any, z: Tensor, df: Tensor) -> Tensor:
    """log f of the standardised component but for what does not depend on z; ``df`` is that of Student's t alone."""
    name = type(components).__name__
    if name in ("Normal", "LogNormal"):
        return -0.5 * z**2
    if name == "StudentT":
        return -0.5 * (df + 1) * torch.log1p(z**2 / df)
    return -z.abs()  # Laplace's


def _slope(components: Any, z: Tensor) -> Tensor:
    """-d log f / dz of the standardised component."""
    name = type(components).__name__
    if name in ("Normal", "LogNormal"):
        return z
    if name == "StudentT":
        df = components.df
        return (df + 1) * z / (df + z**2)
    return z.sign()  # of Laplace's
