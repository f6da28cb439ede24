"""Evaluate a mixture row by row in float64, in blocks that bound the memory.

A predictive of 64,000 components at 1,000 points is 64 million numbers a parameter. A diagnostic needs each of
them once, so rows are cut out, widened to float64 on the CPU, used and dropped.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.models.mixtures import Mixture
from posterity.models.parameters import map_parameters, split
from posterity.random import seeded

CHUNK = 2**19
"""How many component evaluations are held at once: 4 MiB for each intermediate result."""


def row_chunks(mixture: Mixture, per_row: int = 1) -> Iterator[tuple[slice, Mixture]]:
    """Slices of the batch (N,), each with its mixtures in float64 on the CPU.

    ``per_row`` is the number of evaluations of every component that one row takes.
    """
    total = mixture.batch_shape[0]
    step = max(1, CHUNK // (mixture.num_components * per_row))
    tensors, rebuild = split(mixture)  # once: an index into the mixture would normalise the weights of all rows again
    for start in range(0, total, step):
        rows = slice(start, min(start + step, total))
        part: Any = rebuild([tensor[rows].to("cpu", torch.double) for tensor in tensors])
        yield rows, part


def by_rows(mixture: Mixture, function: Callable[[Mixture, slice], Tensor], per_row: int = 1) -> np.ndarray:
    """``function(mixtures, rows)``, of shape (..., rows), for all blocks side by side: (..., N)."""
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
    """Draws (draws, rows) + event: `Mixture.sample`, but the weights are summed once a row and not once a draw."""
    total = mixture.log_weights.exp().cumsum(-1)
    uniform = torch.rand(len(total), draws, dtype=total.dtype) * total[:, -1:]
    chosen = torch.searchsorted(total, uniform, right=True).clamp_max(mixture.num_components - 1)
    row = torch.arange(len(total))[:, None]
    drawn: Tensor = map_parameters(mixture.component_distribution, lambda tensor: tensor[row, chosen]).sample()
    return drawn.transpose(0, 1)
