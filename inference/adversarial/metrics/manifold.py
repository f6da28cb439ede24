"""Precision, recall, density and coverage, from neighbourhoods of the samples.

The neighbourhood of a sample is the ball up to its k-th nearest neighbour among samples of the same kind.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import TIES, check_samples, squared_distance_chunks
from posterity.validation import check_integer


def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> Mapping[str, float]:
    """Precision, recall, density and coverage of real (N, D) and generated (M, D) samples.

    - ``precision``: share of generated samples in the neighbourhood of a real one.
    - ``recall``: share of real samples in the neighbourhood of a generated one.
    - ``density``: number of neighbourhoods of real samples that hold a generated sample, on average, over k.
    - ``coverage``: share of real samples with a generated one in their neighbourhood.

    Precision and recall: Kynkäänniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2. Density and coverage: Naeem et al.
    2020 (arXiv:2002.09797), eq. 4 and 5, who show that one outlier with a wide neighbourhood raises precision or
    recall. For equal distributions, density is 1 on average and coverage is `expected_coverage`; precision and recall
    are below 1, by an amount that depends on the distribution. Neighbourhoods include their border, as in the first
    paper.

    The cost is (N² + M² + N M) D operations, and memory for 2^20 pairs beside the samples in float64.

    Raises:
        ValueError: k outside 1 to min(N, M) - 1, samples of different D, of fewer than 2 rows, or with NaN or infinity.

    >>> x = torch.arange(10.0)[:, None]
    >>> precision_recall(x, x[:5], k=1)  # the upper half is missing: all samples are real, but 6 to 9 are not covered
    {'precision': 1.0, 'recall': 0.6, 'density': 2.8, 'coverage': 0.6}
    """
    real, fake = check_samples(real=real, fake=fake)
    check_integer("k", k, 1, min(len(real), len(fake)) - 1)
    real_radius, fake_radius = _squared_radii(real, k), _squared_radii(fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = pairs = covered = 0
    for rows, square in squared_distance_chunks(real, fake):
        inside = square <= real_radius[rows, None]
        precise |= inside.any(0)
        pairs += int(inside.sum())
        covered += int(inside.any(1).sum())
        recalled += int((square <= fake_radius).any(1).sum())
    return {
        "precision": float(precise.double().mean()),
        "recall": recalled / len(real),
        "density": pairs / (k * len(fake)),
        "coverage": covered / len(real),
    }


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    r"""Expected ``coverage`` for N = ``real`` and M = ``fake`` samples of one continuous distribution.

    $1 - \prod_{i=1}^{k} \frac{N - i}{M + N - i}$ (Naeem et al. 2020): the probability that the k nearest of all other
    samples are not all real. About 1 - 2^-k for N = M.

    Raises:
        ValueError: ``real`` below 2, ``fake`` below 1, or k outside 1 to N - 1.

    >>> round(expected_coverage(5000, 5000, k=5), 3)
    0.969
    """
    check_integer("real", real, 2)
    check_integer("fake", fake, 1)
    check_integer("k", k, 1, real - 1)
    return 1 - math.prod((real - i) / (fake + real - i) for i in range(1, k + 1))


def _squared_radii(sample: Tensor, k: int) -> Tensor:
    """Squared distances (N,) to the k-th nearest other row, ties included."""
    # The nearest row of a row is the row itself, at distance zero.
    squares = [square.topk(k + 1, largest=False).values[:, -1] for _, square in squared_distance_chunks(sample, sample)]
    return torch.cat(squares) * TIES
