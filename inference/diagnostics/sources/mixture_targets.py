"""What mixtures alone can say of several targets, and of all observations together."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.drawing import draw_components, select_components
from posterity.models.mixtures.row_chunks import by_rows, row_chunks, sample
from posterity.models.mixtures.subspace import scale_tril
from posterity.models.parameters import map_parameters
from posterity.random import generator, seeded

SETS = 2**23
"""How many numbers of data sets are made at once: 64 MiB."""


def component_distances(data: MixtureSource, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A component (N,) drawn for each row from its responsibilities, and y's squared distance (N,) from it."""
    uniform = torch.as_tensor(generator(seed, "components").random(len(data.y)))
    per_row = 3 * len(data.y[0])
    chosen, squared = by_rows(
        data.mixture, lambda part, rows: _draw_component(part, data.y[rows], uniform[rows]), per_row
    )
    return chosen.astype(int), squared


def replicates(data: MixtureSource, count: int, seed: int) -> Iterator[np.ndarray]:
    """Data sets (some, N) from the predictive, ``count`` in all, each from *one* draw of the posterior for all rows.

    Drawn row by row instead, each from the whole mixture, the rows of a data set would be independent: what they have
    in common, that the curve as a whole may be elsewhere, would be lost. (Of a bare mixture they are independent.)
    """
    seeds = np.random.SeedSequence(seed)
    # Evenly spread over the draws by their weights, so that every draw has its turn before one has its second.
    place = (torch.arange(count, dtype=torch.double) + generator(seed, "replicates").random()) / count
    for some in place.split(max(1, SETS // len(data.y))):
        child = int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0] >> 1)
        if isinstance(data.mixture, PredictiveMixture):
            yield _replicates(data.mixture, some, child)
        else:
            yield sample(data.mixture, len(some), child)


def _replicates(mixture: PredictiveMixture, place: Tensor, seed: int) -> np.ndarray:
    """A data set (N,) for each place (some,) in (0, 1) along the cumulated weights of the draws."""
    shape, parts = (mixture.num_draws, mixture.components_per_draw), []
    with seeded(seed), torch.no_grad():
        for _, part in row_chunks(mixture, per_row=max(1, math.ceil(len(place) / mixture.num_draws))):
            weight, row = part.log_weights.exp().unflatten(-1, shape), torch.arange(len(part.log_weights))[:, None]
            chosen = draw_components(weight.sum(-1), place.expand(len(row), -1))
            within = weight[row, chosen]  # (rows, some, components of one draw)
            inside = draw_components(within, torch.rand(*chosen.shape, 1, dtype=weight.dtype))[..., 0]
            component = chosen * shape[1] + inside
            parts.append(select_components(part.component_distribution, component).sample().T.numpy())
    return np.concatenate(parts, axis=1)


def _draw_component(mixture: Mixture, y: Tensor, uniform: Tensor) -> Tensor:
    """(2, N): the component, and the squared distance of y (N, D) from it."""
    chosen = draw_components(mixture.responsibilities(y), uniform[:, None])[:, 0]
    rows = torch.arange(len(y))
    one = map_parameters(mixture.component_distribution, lambda values: values[rows, chosen])
    away = torch.linalg.solve_triangular(scale_tril(one), (y - one.mean).unsqueeze(-1), upper=False)
    return torch.stack([chosen.double(), (away[..., 0] ** 2).sum(-1)])
