"""Replicated data sets from a mixture, and the distance of several targets from its components. Needs torch."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.drawing import draw_components, select_components
from posterity.models.mixtures.row_chunks import by_rows, row_chunks, sample
from posterity.models.mixtures.subspace import scale_tril
from posterity.models.parameters import map_parameters
from posterity.random import generator, seeded

SETS = 2**23
"""Numbers in a chunk of replicated data sets: 64 MiB."""


def component_distances(mixture: Mixture, y: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A component (N,) drawn for each row of y (N, D) from its responsibilities, and the squared distance (N,)."""
    uniform = torch.as_tensor(generator(seed, "components").random(len(y)))
    per_row = 3 * len(y[0])
    chosen, squared = by_rows(mixture, lambda part, rows: _draw_component(part, y[rows], uniform[rows]), per_row)
    return chosen.astype(int), squared


def replicates(mixture: Mixture, count: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks (sets, N) of ``count`` data sets, each from *one* draw of the posterior for all N observations.

    If each observation were drawn from the whole mixture, the observations of a data set would be independent, and
    their dependence through the weights (the curve as a whole may lie elsewhere) would be lost. Of a bare mixture they
    are independent.
    """
    seeds = np.random.SeedSequence(seed)
    # Systematic sampling of the draws by weight: every draw is used before any is used twice.
    place = (torch.arange(count, dtype=torch.double) + generator(seed, "replicates").random()) / count
    for some in place.split(max(1, SETS // mixture.batch_shape[0])):
        child = int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0]) >> 1
        if isinstance(mixture, PredictiveMixture):
            yield _replicates(mixture, some, child)
        else:
            yield sample(mixture, len(some), child)


def _replicates(mixture: PredictiveMixture, place: Tensor, seed: int) -> np.ndarray:
    """A data set (N,) for each place (sets,) in (0, 1) along the cumulative weights of the draws."""
    shape, parts = (mixture.num_draws, mixture.components_per_draw), []
    with seeded(seed), torch.no_grad():
        for _, part in row_chunks(mixture, per_row=max(1, math.ceil(len(place) / mixture.num_draws))):
            weight, row = part.log_weights.exp().unflatten(-1, shape), torch.arange(len(part.log_weights))[:, None]
            draw = draw_components(weight.sum(-1), place.expand(len(row), -1))
            within = weight[row, draw]  # (rows, sets, components of one draw)
            inside = draw_components(within, torch.rand(*draw.shape, 1, dtype=weight.dtype))[..., 0]
            component = draw * shape[1] + inside
            parts.append(select_components(part.component_distribution, component).sample().T.numpy())
    return np.concatenate(parts, axis=1)


def _draw_component(mixture: Mixture, y: Tensor, uniform: Tensor) -> Tensor:
    """(2, N): the component, and the squared distance of y (N, D) from it."""
    chosen = draw_components(mixture.responsibilities(y), uniform[:, None])[:, 0]
    rows = torch.arange(len(y))
    one = map_parameters(mixture.component_distribution, lambda values: values[rows, chosen])
    away = torch.linalg.solve_triangular(scale_tril(one), (y - one.mean).unsqueeze(-1), upper=False)
    return torch.stack([chosen.double(), (away[..., 0] ** 2).sum(-1)])
