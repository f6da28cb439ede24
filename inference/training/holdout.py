"""Rows held out of training, and early stopping by the score on them."""

from typing import Any

import torch

from posterity.inference.program.minibatch import count_rows, take_rows


def hold_out(
    args: tuple[Any, ...], share: float, generator: torch.Generator | None = None
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """The arguments of a model for training, and those of a random ``share`` of rows held out; None if the share is 0.

    ``generator`` None draws from torch's global state. Raises ``ValueError`` if no row is left to train on.
    """
    if not share:
        return args, None
    rows = count_rows(args)
    count = max(1, round(share * rows))
    if count >= rows:
        raise ValueError(f"expected rows left to train on, got {rows} rows and {count} held out")
    order = torch.randperm(rows, generator=generator)
    return take_rows(args, order[count:]), take_rows(args, order[:count])


def check_batch_size(batch_size: int | None, rows: int) -> None:
    """Raises ``ValueError`` for batches of more than ``rows`` rows."""
    if batch_size is not None and batch_size > rows:
        raise ValueError(f"expected a batch_size of at most {rows} rows, got {batch_size}")


class Patience:
    """Early stopping after ``limit`` consecutive checks without improvement."""

    def __init__(self, limit: int) -> None:
        self.limit, self.stale = limit, 0

    def exhausted(self, *, improved: bool, scored: bool) -> bool:
        """Whether training ends at this check. Checks before the first finite score (``scored`` False) do not count."""
        self.stale = 0 if improved or not scored else self.stale + 1
        return self.stale >= self.limit
