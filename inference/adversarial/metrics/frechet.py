"""The Fréchet distance of two samples, as if both were normal."""

import math

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import checked


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|m - n|² + tr(C + S - 2 (C S)^½), of the means m, n and covariances C, S of x (N, D) and y (M, D).

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6, who call this squared distance the Fréchet Inception distance where
    the features are that network's. It sees two moments and no more, and is biased upwards, the more so the smaller N
    and M are (Bińkowski et al. 2018, arXiv:1801.01401): compare values at equal N and M only, and with that of two
    real samples.

    Neither a covariance nor its root is formed. With C = A'A and S = B'B from QR decompositions of the centred samples,
    tr (C S)^½ is the sum of the singular values of A B', the eigenvalues of (A S A')^½, so that a covariance without
    full rank, as from N <= D, costs no digits.
    Raises ``ValueError`` for samples of different D, of fewer than 2 rows, or with values that are not finite.

    >>> x = torch.tensor([[0.0], [2.0]])  # a mean of 1 and a variance of 2
    >>> round(frechet_distance(x, 2 * x + 2), 12)  # 4 and 8: 3² + (8^½ - 2^½)²
    11.0
    """
    x, y = checked(x=x, y=y)
    shift = x.mean(0) - y.mean(0)
    a, b = (torch.linalg.qr((s - s.mean(0)) / math.sqrt(len(s) - 1), mode="r").R for s in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * root))
