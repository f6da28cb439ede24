r"""Squared distances of all pairs of two samples, in chunks of bounded memory.

They are computed by a matrix product, $|x|^2 + |y|^2 - 2\,x \cdot y$, which is several times faster than differences.
The rounding error is about 1e-14 of the squared norms, and values below it are set to zero: equal rows have distance
zero, and rows nearer than about 1e-7 of their distance from the mean cannot be told apart.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 2**20
"""Pairs in memory at once: 8 MiB for each intermediate result."""

TIES = 1 + 1e-9
"""Squared distances whose ratio is below this count as equal, whichever way they were rounded."""


def check_samples(**samples: Tensor) -> tuple[Tensor, ...]:
    """The samples in float64, without gradients.

    Raises:
        ValueError: A sample is not a finite real tensor (N, D) with N >= 2, or the samples differ in D.
    """
    for name, value in samples.items():
        if not isinstance(value, Tensor) or value.ndim != 2 or len(value) < 2 or not value.shape[1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected {name} of shape (N, D), N of 2 or more, got {got}")
        if value.is_complex():
            raise ValueError(f"expected real {name}, got {value.dtype}")
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise ValueError(f"expected finite {name}, got {wrong} of {value.numel()} that are nan or infinite")
    widths = {name: value.shape[1] for name, value in samples.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"expected the same number of features D, got {widths}")
    return tuple(value.detach().double() for value in samples.values())


def sample_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix, with at most `CHUNK` numbers (or one row) each."""
    step = max(1, CHUNK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def squared_distance_chunks(x: Tensor, y: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Slices of rows of x (N, D) with their squared distances from all rows of y (M, D), shape (rows, M).

    Without y: the distances from the rows of x itself, from the first row of the slice on, shape (rows, N -
    rows.start). The entries right of the diagonal are then each pair once.
    """
    other = x if y is None else y
    centre = other.mean(0)  # rounding is least near zero
    x, other = x - centre, other - centre
    x_square, other_square = (x**2).sum(1), (other**2).sum(1)
    rounding = 2 * (x.shape[1] + 8) * torch.finfo(x.dtype).eps
    for rows in sample_chunks(len(x), len(other)):
        start = rows.start if y is None else 0
        norms = x_square[rows, None] + other_square[start:]
        square = torch.addmm(norms, x[rows], other[start:].T, alpha=-2)
        yield rows, square.masked_fill_(square <= norms.mul_(rounding), 0.0)
