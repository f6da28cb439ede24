"""All pairs of two samples, in blocks of rows that bound the memory.

Squared distances come from a matrix product, |x|² + |y|² - 2 x·y, which is several times faster than differences.
It rounds by about 1e-14 of the squared norms, so anything as small counts as zero: equal rows are at distance zero, and
rows nearer than some 1e-7 of their distance from the mean are not told apart.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**20
"""How many pairs are held at once: 8 MiB for each intermediate result."""

TIES = 1 + 1e-9
"""Squared distances as near to each other as this are equal, whichever way they were rounded."""


def checked(**samples: Tensor) -> tuple[Tensor, ...]:
    """The samples in float64, without gradients.

    Raises ``ValueError`` unless all are finite tensors of shape (N, D), N of 2 or more, D the same.
    """
    for name, value in samples.items():
        if not isinstance(value, Tensor) or value.ndim != 2 or len(value) < 2 or not value.shape[1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected {name} of shape (N, D), N of 2 or more, got {got}")
        if value.is_complex():
            raise ValueError(f"expected real {name}, got {value.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"expected finite {name}, got {int((~torch.isfinite(value)).sum())} values that are not")
    widths = {name: value.shape[1] for name, value in samples.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"expected the same number of features D, got {widths}")
    return tuple(value.detach().double() for value in samples.values())


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix, of at most `BLOCK` numbers (or one row) each."""
    step = max(1, BLOCK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def square_blocks(x: Tensor, y: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Rows of x (N, D) with their squared distances from y (M, D), shape (rows, M).

    Without y, from x itself, and from the block's first row on: (rows, N - rows.start), whose entries right of the
    diagonal are every pair once.
    """
    other = x if y is None else y
    centre = other.mean(0)  # the nearer to zero, the less is rounded
    x, other = x - centre, other - centre
    x_square, other_square = (x**2).sum(1), (other**2).sum(1)
    same = 2 * (x.shape[1] + 8) * torch.finfo(x.dtype).eps
    for rows in row_blocks(len(x), len(other)):
        start = rows.start if y is None else 0
        size = x_square[rows, None] + other_square[start:]
        square = torch.addmm(size, x[rows], other[start:].T, alpha=-2)
        yield rows, square.masked_fill_(square <= size.mul_(same), 0.0)
