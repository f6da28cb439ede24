"""Precision, recall, density and coverage: is the generated among the real, and the real among the generated?

The place of a sample is what is as near to it as its k-th nearest neighbour of the same sample is.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import TIES, checked, square_blocks
from posterity.validation import check_integer


def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> Mapping[str, float]:
    """Of real (N, D) and generated (M, D) samples, with ``k`` neighbours:

    - ``precision``: the share of generated samples in the place of some real one;
    - ``recall``: the share of real samples in the place of some generated one;
    - ``density``: in how many real samples' places a generated one is, over k;
    - ``coverage``: the share of real samples in whose place some generated one is.

    The first two are of Kynkäänniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2; the others of Naeem et al. 2020
    (arXiv:2002.09797), eq. 4 and 5, who show that a single outlier has a wide place and lifts precision, or recall if
    generated. Of equal distributions density is 1 on average and coverage `expected_coverage`; precision and recall
    are less than 1 there, by how much depends on the distribution. A place includes its border, as in the first paper.

    Takes (N² + M² + N M) D operations, and memory for `BLOCK` pairs beside the samples in float64.
    Raises ``ValueError`` for a k that is not between 1 and N - 1 and M - 1, for samples of different D, of fewer than 2
    rows or with values that are not finite.

    >>> x = torch.arange(10.0)[:, None]
    >>> precision_recall(x, x[:5], k=1)  # half of it is missing: no sample is wrong, but 6 to 9 are not covered
    {'precision': 1.0, 'recall': 0.6, 'density': 2.8, 'coverage': 0.6}
    """
    real, fake = checked(real=real, fake=fake)
    check_integer("k", k, 1, min(len(real), len(fake)) - 1)
    real_place, fake_place = _places(real, k), _places(fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = places = covered = 0
    for rows, square in square_blocks(real, fake):
        inside = square <= real_place[rows, None]
        precise |= inside.any(0)
        places += int(inside.sum())
        covered += int(inside.any(1).sum())
        recalled += int((square <= fake_place).any(1).sum())
    return {
        "precision": float(precise.double().mean()),
        "recall": recalled / len(real),
        "density": places / (k * len(fake)),
        "coverage": covered / len(real),
    }


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    """What ``coverage`` is on average for N = ``real`` and M = ``fake`` samples of one distribution without ties.

    1 - (N-1)···(N-k) / ((M+N-1)···(M+N-k)) (Naeem et al. 2020): of the k nearest of all others, not all are real.
    About 1 - 2^-k for N = M.
    Raises ``ValueError`` for counts below 2 and 1, or a k that is not between 1 and N - 1.

    >>> round(expected_coverage(5000, 5000, k=5), 3)
    0.969
    """
    check_integer("real", real, 2)
    check_integer("fake", fake, 1)
    check_integer("k", k, 1, real - 1)
    return 1 - math.prod((real - i) / (fake + real - i) for i in range(1, k + 1))


def _places(sample: Tensor, k: int) -> Tensor:
    """Squared distances (N,) to the k-th nearest other row, ties included."""
    # A row is its own nearest, at distance zero.
    squares = [square.topk(k + 1, largest=False).values[:, -1] for _, square in square_blocks(sample, sample)]
    return torch.cat(squares) * TIES
