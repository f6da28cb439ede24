"""Evaluation of a mixture row by row in float64, in chunks of rows that bound the memory.

A predictive with 64,000 components at 1,000 points has 64 million numbers in each parameter. A diagnostic needs each
of them once: chunks of rows are converted to float64 on the CPU, used and discarded.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.models.mixtures import Mixture
from posterity.models.mixtures.drawing import draw_components, select_components
from posterity.models.parameters import split
from posterity.random import seeded

CHUNK = 2**19
"""Evaluations of a component in one chunk: 4 MiB for each intermediate result."""


def row_chunks(mixture: Mixture, per_row: int = 1) -> Iterator[tuple[slice, Mixture]]:
    """Slices of the batch (N,), each with its mixtures in float64 on the CPU.

    ``per_row`` is the number of evaluations of each component that one row takes.
    """
    total = mixture.batch_shape[0]
    step = max(1, CHUNK // (mixture.num_components * per_row))
    tensors, rebuild = split(mixture)  # once: an index into the mixture would normalise the weights of all rows again
    for start in range(0, total, step):
        rows = slice(start, min(start + step, total))
        part: Any = rebuild([tensor[rows].to("cpu", torch.double) for tensor in tensors])
        yield rows, part


def by_rows(mixture: Mixture, function: Callable[[Mixture, slice], Tensor], per_row: int = 1) -> np.ndarray:
    """``function(mixtures, rows)``, of shape (..., rows), for all chunks side by side: (..., N)."""
    with torch.no_grad():
        parts = [function(part, rows).numpy() for rows, part in row_chunks(mixture, per_row)]
    return np.concatenate(parts, axis=-1)


def sample(mixture: Mixture, draws: int, seed: int) -> np.ndarray:
    """Draws of the predictive, shape (draws, N) + event, float64."""
    per_row = max(1, math.ceil(draws / mixture.num_components))  # a row holds its draws, however few components
    with seeded(seed), torch.no_grad():
        parts = [sample_chunk(part, draws).numpy() for _, part in row_chunks(mixture, per_row)]
    return np.concatenate(parts, axis=1)


def sample_chunk(mixture: Mixture, draws: int) -> Tensor:
    """Draws (draws, rows) + event, as `Mixture.sample`, but the weights are summed once per row and not per draw."""
    weights = mixture.log_weights.exp()
    chosen = draw_components(weights, torch.rand(len(weights), draws, dtype=weights.dtype))
    drawn: Tensor = select_components(mixture.component_distribution, chosen).sample()
    return drawn.transpose(0, 1)
