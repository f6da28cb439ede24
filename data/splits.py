"""Splits of a table into training and test rows, reproducible by their seed.

`holdout` returns the row numbers of one split, `kfold` those of k splits, `cross_validation` the tables of k splits.
Fit a `Standardization` on the training part of each split, never on the whole table.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from posterity.data.observations import Observations
from posterity.random import as_generator
from posterity.validation import check_integer, check_number


def kfold(n: int, folds: int, seed: int | torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Row numbers (train, test) of `folds` splits of n rows, shuffled by `seed`.

    Every row is in exactly one test fold; sizes of the test folds differ by at most one. Row numbers are
    increasing.

    Raises:
        ValueError: fewer than 2 folds, or fewer rows than folds.

    >>> [(len(train), len(test)) for train, test in kfold(10, 3, seed=0)]
    [(6, 4), (7, 3), (7, 3)]
    """
    check_integer("folds", folds, 2)
    check_integer("n", n, 1)
    if n < folds:
        raise ValueError(f"expected at least as many rows as folds, got {n} rows and {folds} folds")
    tests = [fold.sort().values for fold in _shuffled(n, seed).tensor_split(folds)]
    return [(_complement(n, test), test) for test in tests]


def holdout(n: int, fraction: float, seed: int | torch.Generator) -> tuple[Tensor, Tensor]:
    """Row numbers (train, test) of one split of n rows, with about `fraction` of them in the test part.

    Both parts have at least one row. Row numbers are increasing.

    Raises:
        ValueError: `fraction` is not strictly between 0 and 1, or n is below 2.

    >>> train, test = holdout(10, 0.2, seed=0)
    >>> len(train), len(test)
    (8, 2)
    """
    check_integer("n", n, 2)
    check_number("fraction", fraction, "(0, 1)")
    size = min(max(round(n * fraction), 1), n - 1)
    test = _shuffled(n, seed)[:size].sort().values
    return _complement(n, test), test


def cross_validation(
    observations: Observations, folds: int, seed: int | torch.Generator
) -> Iterator[tuple[Observations, Observations]]:
    """An iterator over the tables (train, test) of `kfold(len(observations), folds, seed)`.

    Raises:
        ValueError: as `kfold`, at the call and not at the first split.
    """
    if not isinstance(observations, Observations):
        raise ValueError(f"expected observations to be Observations, got {type(observations).__name__}")
    splits = kfold(len(observations), folds, seed)
    return ((observations.subset(train), observations.subset(test)) for train, test in splits)


def _shuffled(n: int, seed: int | torch.Generator) -> Tensor:
    generator = as_generator(seed)
    return torch.randperm(n, generator=generator, device=generator.device).cpu()


def _complement(n: int, index: Tensor) -> Tensor:
    left = torch.ones(n, dtype=torch.bool)
    left[index] = False
    return left.nonzero()[:, 0]
