"""What mixtures alone can say of several targets, and of all observations together."""

import math

import numpy as np
import torch
from torch import Tensor

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.inference.diagnostics.sources.rows import blocks, by_rows
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program import seeded
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.subspace import scale_tril
from posterity.models.parameters import map_parameters


def component_distances(data: MixtureSource, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A component (N,) drawn for each row from its responsibilities, and y's squared distance (N,) from it."""
    uniform = torch.as_tensor(np.random.default_rng(seed).random(len(data.y)))
    per_row = 3 * len(data.y[0])
    chosen, squared = by_rows(
        data.mixture, lambda part, rows: _draw_component(part, data.y[rows], uniform[rows]), per_row
    )
    return chosen.astype(int), squared


def replicates(data: MixtureSource, count: int, seed: int) -> np.ndarray:
    """Data sets (count, N) from the predictive, each from *one* draw of the posterior, the same for all rows.

    Drawn row by row instead, each from the whole mixture, the rows of a data set would be independent: what they have
    in common, that the curve as a whole may be elsewhere, would be lost.
    """
    mixture = data.mixture
    if not isinstance(mixture, PredictiveMixture):
        return data.draws(count, seed)
    # Evenly spread over the draws by their weights, so that every draw has its turn before one has its second.
    place = (torch.arange(count, dtype=torch.double) + np.random.default_rng(seed).random()) / count
    parts = []
    with seeded(seed), torch.no_grad():
        for _, part in blocks(mixture, per_row=max(1, math.ceil(count / mixture.num_draws))):
            steps = part.log_draw_weights.exp().cumsum(-1)  # (rows, draws of the posterior)
            places = place.expand(len(steps), -1).contiguous() * steps[:, -1:]
            chosen = torch.searchsorted(steps, places, right=True).clamp_max(mixture.num_draws - 1)
            rows = torch.arange(len(steps))[:, None]
            parts.append(part.per_draw[rows, chosen].sample().T.numpy())
    return np.concatenate(parts, axis=1)


def _draw_component(mixture: Mixture, y: Tensor, uniform: Tensor) -> Tensor:
    """(2, N): the component, and the squared distance of y (N, D) from it."""
    steps = mixture.responsibilities(y).cumsum(-1)
    chosen = (steps <= (uniform * steps[:, -1]).unsqueeze(-1)).sum(-1).clamp_max(mixture.num_components - 1)
    rows = torch.arange(len(y))
    one = map_parameters(mixture.component_distribution, lambda values: values[rows, chosen])
    away = torch.linalg.solve_triangular(scale_tril(one), (y - one.mean).unsqueeze(-1), upper=False)
    return torch.stack([chosen.double(), (away[..., 0] ** 2).sum(-1)])
