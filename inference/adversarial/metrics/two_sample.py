"""The maximum mean discrepancy: how far apart the means of two samples are after a kernel has lifted them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import checked, row_blocks, square_blocks
from posterity.validation import check_integer, check_number, check_seed

Kernel = Literal["rbf", "polynomial"]

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the median distance
MEDIAN_OF = 1000  # rows
COLUMNS = 512  # permutations whose memberships are held as numbers at once


@dataclass(frozen=True)
class KernelTest:
    """``distance`` as `kernel_distance` has it, ``p_value`` of as much by chance where the distributions are equal."""

    distance: float
    p_value: float


def kernel_distance(x: Tensor, y: Tensor, *, kernel: Kernel = "rbf", widths: Sequence[float] | None = None) -> float:
    """MMD² of x (N, D) and y (M, D) without bias: zero on average for equal distributions, hence below zero at times.

    The U-statistic of Gretton et al. 2012 (JMLR 13), eq. 3: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over pairs
    of different rows. The kernels:

    - ``"rbf"``: the mean over ``widths`` w of exp(-|x - y|² / (2 w²)), by default `median_widths` of all rows together.
      To compare generators with each other, give all the same: ``widths=median_widths(real)``.
    - ``"polynomial"``: (x·y / D + 1)³; with features of the Inception network this is the kernel distance (KID) of
      Bińkowski et al. 2018 (arXiv:1801.01401). Not free of the features' units, nor of their origin.

    Takes (N + M)² D operations, and memory for `BLOCK` pairs beside the samples in float64.
    Raises ``ValueError`` for another kernel, widths that are not above 0 or go with the polynomial, samples of
    different D, of fewer than 2 rows or with values that are not finite, and where all rows are equal and no widths
    are given.

    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 500, 3, generator=random)
    >>> abs(kernel_distance(x, y)) < 0.005 < kernel_distance(x, y + 0.5)
    True
    """
    x, y = checked(x=x, y=y)
    pooled = torch.cat([x, y])
    members = torch.arange(len(pooled), device=pooled.device) < len(x)
    distances, _ = _distances(pooled, members[None], kernel, widths)
    return float(distances[0])


def kernel_test(
    x: Tensor,
    y: Tensor,
    *,
    permutations: int = 500,
    seed: int,
    kernel: Kernel = "rbf",
    widths: Sequence[float] | None = None,
) -> KernelTest:
    """Is `kernel_distance` of x (N, D) and y (M, D) more than chance? Rows change sides at random.

    The p-value is (1 + permutations with a distance as large) / (1 + permutations), valid at any N and M: where both
    are samples of one distribution, it is at most a with a probability of at most a (Phipson & Smyth 2010,
    arXiv:1603.05766). It is not below 1 / (1 + permutations).

    The kernel is computed once, half of it since it is symmetric, and its product with all memberships at once takes
    (N + M)² permutations operations more. Memory: that of `kernel_distance`, a byte for each row and permutation, and
    8 for each row and 512 permutations.
    Raises ``ValueError`` as `kernel_distance`, and for fewer than 1 permutation or a negative seed.

    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 100, 3, generator=random)
    >>> kernel_test(x, y, seed=0).p_value > 0.05, kernel_test(x, y + 1, seed=0).p_value
    (True, 0.001996007984031936)
    """
    x, y = checked(x=x, y=y)
    check_integer("permutations", permutations, 1)
    check_seed(seed)
    pooled = torch.cat([x, y])
    random = torch.Generator().manual_seed(seed)
    first = [torch.arange(len(pooled))[None] < len(x)]
    for rows in row_blocks(permutations, len(pooled)):
        keys = torch.rand(rows.stop - rows.start, len(pooled), generator=random, dtype=torch.double)
        first.append(keys.argsort(1) < len(x))
    distances, rounding = _distances(pooled, torch.cat(first).to(pooled.device), kernel, widths)
    # Permutations that only swap equal rows, or both sides, tie with what was observed.
    as_large = int((distances[1:] >= distances[0] - rounding).sum())
    return KernelTest(float(distances[0]), (1 + as_large) / (1 + permutations))


def median_widths(sample: Tensor) -> tuple[float, ...]:
    """The median distance of two different rows of ``sample`` (N, D) times 1/4, 1/2, 1, 2 and 4.

    Gretton et al. 2012, section 8, take the median; a mixture around it sees finer and coarser differences too. Beyond
    1,000 rows the median is of 1,000 that are evenly spaced in the order of their distance from the mean, so that it
    does not depend on the order of the rows.
    Raises ``ValueError`` where all rows are equal, for fewer than 2, or for values that are not finite.

    >>> median_widths(torch.tensor([[0.0], [1.0], [3.0]]))
    (0.5, 1.0, 2.0, 4.0, 8.0)
    """
    (sample,) = checked(sample=sample)
    if len(sample) > MEDIAN_OF:
        order = (sample - sample.mean(0)).norm(dim=1).argsort(stable=True)
        sample = sample[order[torch.linspace(0, len(sample) - 1, MEDIAN_OF, device=sample.device).round().long()]]
    distances = torch.nn.functional.pdist(sample)
    distances = distances[distances > 0]
    if not len(distances):
        raise ValueError(f"expected rows that differ, got {len(sample)} equal ones")
    return tuple(factor * float(distances.median()) for factor in FACTORS)


def _distances(
    pooled: Tensor, members: Tensor, kernel: Kernel, widths: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """Distances (P,), and their rounding, of rows (R, D) with memberships (P, R) in the first of two samples."""
    within = torch.zeros(len(members), dtype=torch.double, device=pooled.device)
    touching, total = torch.zeros_like(within), torch.zeros((), dtype=torch.double, device=pooled.device)
    for rows, block in _kernel_blocks(pooled, kernel, widths):
        values = block.triu_(1)
        sums = values.sum(1)
        total += sums.sum()
        for start in range(0, len(members), COLUMNS):
            part = slice(start, start + COLUMNS)
            inside = members[part, rows.start :].T.to(values)
            product, mine = values @ inside, inside[: len(values)]
            within[part] += (product * mine).sum(0)
            touching[part] += product.sum(0) + sums @ mine
    n, m = int(members[0].sum()), int((~members[0]).sum())
    across = touching - 2 * within
    terms = torch.stack([2 * within / (n * (n - 1)), 2 * (total - within - across) / (m * (m - 1)), across / (n * m)])
    return terms[0] + terms[1] - 2 * terms[2], 1e-12 * terms[:, 0].abs().sum()


def _kernel_blocks(pooled: Tensor, kernel: Kernel, widths: Sequence[float] | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows with the kernel of each and all from the first of them on."""
    if kernel == "polynomial":
        if widths is not None:
            raise ValueError(f"expected widths for the kernel 'rbf' alone, got {widths} for 'polynomial'")
        for rows in row_blocks(len(pooled), len(pooled)):
            yield rows, (pooled[rows] @ pooled[rows.start :].T / pooled.shape[1] + 1) ** 3
    elif kernel == "rbf":
        if widths is not None and not isinstance(widths, Sequence):
            raise ValueError(f"expected widths as a sequence of numbers, got {widths!r}")
        widths = median_widths(pooled) if widths is None else tuple(widths)
        if not widths:
            raise ValueError("expected at least one width, got none")
        for width in widths:
            check_number("widths", width, "(0, inf)")
        for rows, square in square_blocks(pooled):
            values = torch.zeros_like(square)
            for width in widths:
                values += (square * (-0.5 / width**2)).exp_()
            yield rows, values.div_(len(widths))
    else:
        raise ValueError(f"expected the kernel 'rbf' or 'polynomial', got {kernel!r}")
