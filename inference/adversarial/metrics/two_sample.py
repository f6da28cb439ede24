"""Maximum mean discrepancy of two samples: `kernel_distance`, and `kernel_test` for its p-value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import check_samples, sample_chunks, squared_distance_chunks
from posterity.validation import check_choice, check_integer, check_number, check_seed, shown

Kernel = Literal["rbf", "polynomial"]

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # bandwidths over the median distance
MEDIAN_ROWS = 1000  # rows that the median distance is computed from
COLUMNS = 512  # permutations whose memberships are in memory as floats at once


@dataclass(frozen=True)
class KernelTest:
    """Result of `kernel_test`.

    Attributes:
        distance: The value of `kernel_distance`.
        p_value: Probability of a distance at least as large if the distributions are equal.
    """

    distance: float
    p_value: float


def kernel_distance(
    x: Tensor, y: Tensor, *, kernel: Kernel = "rbf", bandwidths: Sequence[float] | None = None
) -> float:
    r"""Unbiased squared maximum mean discrepancy (MMD²) of x (N, D) and y (M, D).

    The U-statistic of Gretton et al. 2012 (JMLR 13), eq. 3: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over pairs
    of different rows. It is zero on average for equal distributions, and so below zero at times. Kernels:

    - ``"rbf"``: mean of $\exp(-|x - y|^2 / (2 w^2))$ over the ``bandwidths`` w, by default `median_bandwidths` of all
      rows together. To compare generators, use the same for all: ``bandwidths=median_bandwidths(real)``.
    - ``"polynomial"``: $(x \cdot y / D + 1)^3$; on features of the Inception network this is the kernel Inception
      distance (KID) of Bińkowski et al. 2018 (arXiv:1801.01401). It depends on the units and the origin of the
      features.

    The cost is (N + M)² D operations, and memory for 2^20 pairs beside the samples in float64.

    Raises:
        ValueError: Another kernel, bandwidths that are not above 0 or given with the polynomial kernel, samples of
            different D, of fewer than 2 rows, or with NaN or infinity; or equal rows throughout without bandwidths.

    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 500, 3, generator=random)
    >>> abs(kernel_distance(x, y)) < 0.005 < kernel_distance(x, y + 0.5)
    True
    """
    x, y = check_samples(x=x, y=y)
    pooled = torch.cat([x, y])
    members = torch.arange(len(pooled), device=pooled.device) < len(x)
    distances, _ = _distances(pooled, members[None], kernel, bandwidths)
    return float(distances[0])


def kernel_test(
    x: Tensor,
    y: Tensor,
    *,
    permutations: int = 500,
    seed: int,
    kernel: Kernel = "rbf",
    bandwidths: Sequence[float] | None = None,
) -> KernelTest:
    """Permutation test of equal distributions of x (N, D) and y (M, D) by their `kernel_distance`.

    The p-value is (1 + number of permutations with a distance at least as large) / (1 + permutations). It is valid at
    any N and M: for equal distributions, the probability of a p-value of at most a is at most a (Phipson & Smyth 2010,
    arXiv:1603.05766). Its smallest value is 1 / (1 + permutations).

    The kernel matrix is computed once, and only its upper half. Its product with all memberships costs another
    (N + M)² permutations operations. Memory: that of `kernel_distance`, one byte for each row and permutation, and 8
    bytes for each row and 512 permutations.

    Args:
        x: First sample (N, D).
        y: Second sample (M, D).
        permutations: Number of random permutations of the rows.
        seed: Seed of the permutations.
        kernel: "rbf" or "polynomial", as for `kernel_distance`.
        bandwidths: Bandwidths of the "rbf" kernel, as for `kernel_distance`.

    Raises:
        ValueError: The reasons of `kernel_distance`, ``permutations`` below 1, or a negative seed.

    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 100, 3, generator=random)
    >>> kernel_test(x, y, seed=0).p_value > 0.05, kernel_test(x, y + 1, seed=0).p_value
    (True, 0.001996007984031936)
    """
    x, y = check_samples(x=x, y=y)
    check_integer("permutations", permutations, 1)
    check_seed(seed)
    pooled = torch.cat([x, y])
    random = torch.Generator().manual_seed(seed)
    first = [torch.arange(len(pooled))[None] < len(x)]
    for rows in sample_chunks(permutations, len(pooled)):
        keys = torch.rand(rows.stop - rows.start, len(pooled), generator=random, dtype=torch.double)
        first.append(keys.argsort(1) < len(x))
    distances, rounding = _distances(pooled, torch.cat(first).to(pooled.device), kernel, bandwidths)
    # Permutations that swap only equal rows, or both samples, tie with the observed distance.
    as_large = int((distances[1:] >= distances[0] - rounding).sum())
    return KernelTest(float(distances[0]), (1 + as_large) / (1 + permutations))


def median_bandwidths(sample: Tensor) -> tuple[float, ...]:
    """Median distance between two different rows of ``sample`` (N, D), times 1/4, 1/2, 1, 2 and 4.

    Gretton et al. 2012, section 8, take the median; a mixture of bandwidths around it also detects finer and coarser
    differences. Beyond 1,000 rows the median is that of 1,000 rows, evenly spaced in the order of their distance from
    the mean, so that it does not depend on the order of the rows.

    Raises:
        ValueError: All rows are equal, fewer than 2 rows, or NaN or infinity.

    >>> median_bandwidths(torch.tensor([[0.0], [1.0], [3.0]]))
    (0.5, 1.0, 2.0, 4.0, 8.0)
    """
    (sample,) = check_samples(sample=sample)
    if len(sample) > MEDIAN_ROWS:
        order = (sample - sample.mean(0)).norm(dim=1).argsort(stable=True)
        sample = sample[order[torch.linspace(0, len(sample) - 1, MEDIAN_ROWS, device=sample.device).round().long()]]
    distances = torch.nn.functional.pdist(sample)
    distances = distances[distances > 0]
    if not len(distances):
        raise ValueError(f"expected rows that differ, got {len(sample)} equal ones")
    return tuple(factor * float(distances.median()) for factor in FACTORS)


def _distances(
    pooled: Tensor, members: Tensor, kernel: Kernel, bandwidths: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """Squared distances (P,) and their rounding error, for memberships (P, R) of R pooled rows in the first sample."""
    within = torch.zeros(len(members), dtype=torch.double, device=pooled.device)
    touching, total = torch.zeros_like(within), torch.zeros((), dtype=torch.double, device=pooled.device)
    for rows, chunk in _kernel_chunks(pooled, kernel, bandwidths):
        values = chunk.triu_(1)
        sums = values.sum(1)
        total += sums.sum()
        for start in range(0, len(members), COLUMNS):
            part = slice(start, start + COLUMNS)
            inside = members[part, rows.start :].T.to(values)
            product, own = values @ inside, inside[: len(values)]
            within[part] += (product * own).sum(0)
            touching[part] += product.sum(0) + sums @ own
    n, m = int(members[0].sum()), int((~members[0]).sum())
    across = touching - 2 * within
    terms = torch.stack([2 * within / (n * (n - 1)), 2 * (total - within - across) / (m * (m - 1)), across / (n * m)])
    return terms[0] + terms[1] - 2 * terms[2], 1e-12 * terms[:, 0].abs().sum()


def _kernel_chunks(
    pooled: Tensor, kernel: Kernel, bandwidths: Sequence[float] | None
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of rows, with the kernel of each row and all rows from the first of the slice on."""
    check_choice("kernel", kernel, ("rbf", "polynomial"))
    if kernel == "polynomial":
        if bandwidths is not None:
            raise ValueError(f"expected bandwidths to be None for the polynomial kernel, got {shown(bandwidths)}")
        for rows in sample_chunks(len(pooled), len(pooled)):
            yield rows, (pooled[rows] @ pooled[rows.start :].T / pooled.shape[1] + 1) ** 3
        return
    if bandwidths is not None and not isinstance(bandwidths, Sequence):
        raise ValueError(f"expected bandwidths to be a sequence of numbers, got {shown(bandwidths)}")
    bandwidths = median_bandwidths(pooled) if bandwidths is None else tuple(bandwidths)
    if not bandwidths:
        raise ValueError("expected at least one of bandwidths, got none")
    for bandwidth in bandwidths:
        check_number("every bandwidth", bandwidth, "(0, inf)")
    for rows, square in squared_distance_chunks(pooled):
        values = torch.zeros_like(square)
        for bandwidth in bandwidths:
            values += (square * (-0.5 / bandwidth**2)).exp_()
        yield rows, values.div_(len(bandwidths))
