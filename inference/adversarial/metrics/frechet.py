"""`frechet_distance`: the Fréchet distance of two samples, as if both were normal."""

import math

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import check_samples


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""$|m - n|^2 + \mathrm{tr}(C + S - 2 (C S)^{1/2})$ for means m, n and covariances C, S of x (N, D) and y (M, D).

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6; on features of the Inception network this squared distance is the
    Fréchet Inception distance (FID). It depends on two moments alone, and its bias is upwards and grows as N and M fall
    (Bińkowski et al. 2018, arXiv:1801.01401). Compare values at equal N and M, and with the value of two real samples.

    Neither the covariances nor a matrix root are formed. With C = A'A and S = B'B from QR decompositions of the centred
    samples, $\mathrm{tr}(C S)^{1/2}$ is the sum of the singular values of A B'. Covariances without full rank, as for
    N <= D, therefore lose no digits.

    Raises:
        ValueError: Samples of different D, of fewer than 2 rows, or with NaN or infinity.

    >>> x = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
    >>> round(frechet_distance(x, 2 * x + 2), 12)  # mean 4, variance 8: 3² + (8^½ - 2^½)²
    11.0
    """
    x, y = check_samples(x=x, y=y)
    shift = x.mean(0) - y.mean(0)
    a, b = (torch.linalg.qr((s - s.mean(0)) / math.sqrt(len(s) - 1), mode="r").R for s in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * root))
