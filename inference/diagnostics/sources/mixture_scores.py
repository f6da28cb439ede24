"""Derivatives of a mixture's log density by the widths, places and weights of its components. Needs torch.

See `posterity.inference.diagnostics.mixture_tests` for their use.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Laplace, LogNormal, Normal, StudentT

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.row_chunks import row_chunks
from posterity.random import seeded

SIMULATED = 40_000
"""Values drawn from the model for the covariance of the scores, at least one per observation: errors of some 3 %."""

DENSITIES = 6e7
"""Largest number of component densities for them; of very many components fewer values are drawn."""


class Shape(NamedTuple):
    """The density f of a standardised component: log f(z) up to a constant, and -d log f / dz; df is Student's."""

    log_density: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


NORMAL = Shape(lambda z, df: -0.5 * z**2, lambda z, df: z)
SHAPES: dict[type[Distribution], Shape] = {
    Normal: NORMAL,
    LogNormal: NORMAL,  # of log y
    StudentT: Shape(lambda z, df: -0.5 * (df + 1) * torch.log1p(z**2 / df), lambda z, df: (df + 1) * z / (df + z**2)),
    Laplace: Shape(lambda z, df: -z.abs(), lambda z, df: z.sign()),
}


def has_shape(mixture: Mixture) -> bool:
    """Whether the components are of one of the families in `SHAPES`."""
    return isinstance(mixture.component_distribution, tuple(SHAPES))


def shape_of(components: Distribution) -> Shape:
    """The shape of the components; ``ValueError`` for a family that is not in `SHAPES`."""
    for family, shape in SHAPES.items():
        if isinstance(components, family):
            return shape
    families = ", ".join(family.__name__ for family in SHAPES)
    raise ValueError(f"expected {families} components for mixture tests, got {type(components).__name__}")


def component_scores(data: MixtureSource, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum (3 K) and expected covariance (3 K, 3 K) of the scores, and mean weights (K).

    The scores are those of log width, place (in widths) and log odds, in this order, of each of the K components of a
    draw: the same change for all observations and draws. The covariance is that of the sum under the model.
    """
    mixture, y = data.mixture, data.y
    per_draw = mixture.num_components // data.num_draws
    affordable = int(DENSITIES / (len(y) * mixture.num_components))
    count = max(1, min(math.ceil(SIMULATED / len(y)), affordable))
    total, covariance = torch.zeros(3 * per_draw).double(), torch.zeros(3 * per_draw, 3 * per_draw).double()
    weight = torch.zeros(per_draw).double()
    with torch.no_grad(), seeded(seed):
        for rows, part in row_chunks(mixture, 3 * count):
            total += _scores_of_rows(part, y[rows], data.num_draws).sum(0)
            drawn = _scores_of_rows(part, part.sample(Size([count])), data.num_draws)
            covariance += torch.einsum("sni,snj->ij", drawn, drawn) / count
            weight += _by_component(part.log_weights.exp(), data.num_draws).sum(0)
    return total.numpy(), covariance.numpy(), (weight / len(y)).numpy()


def _scores_of_rows(mixture: Mixture, y: Tensor, num_draws: int) -> Tensor:
    """Scores (..., N, 3 K) of y (..., N)."""
    share = mixture.responsibilities(y)
    components = mixture.component_distribution
    z = standardise(components, y)
    slope = shape_of(components).slope(z, degrees_of_freedom(components))
    place = _by_component(share * slope, num_draws)
    width = _by_component(share * (z * slope - 1), num_draws)
    odds = _by_component(share, num_draws) - _by_component(mixture.log_weights.exp(), num_draws)
    return torch.cat([width, place, odds.expand(place.shape)], -1)


def _by_component(values: Tensor, num_draws: int) -> Tensor:
    """Summed over the draws: (..., S K) to (..., K)."""
    return values.unflatten(-1, (num_draws, -1)).sum(-2)


def standardise(components: Any, y: Tensor) -> Tensor:
    """Distance of y (..., N) from the place of each component, in widths: (..., N, K)."""
    value = y.unsqueeze(-1)
    if isinstance(components, LogNormal):
        value = value.log()
    return (value - components.loc) / components.scale


def degrees_of_freedom(components: Any) -> Tensor:
    """Those of Student's t; 1, which is not used, for other families."""
    return getattr(components, "df", torch.ones(()).double())
