r"""The transform of a vector to a positive definite matrix, which torch's ``biject_to`` does not have.

The vector holds the lower triangle of a matrix $L$ row by row, with the logarithms of its diagonal, and the matrix is
$L L^\top$. Its log determinant with respect to the lower triangle of the result is
$n \log 2 + \sum_i (n - i + 2) \log L_{ii}$ with $i = 1, \dots, n$ (Muirhead 1982, theorem 2.1.9).
"""

import math

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints


def bijection_to(support: constraints.Constraint) -> Transform:
    """The bijection from unconstrained space to a support: torch's ``biject_to``, or `PositiveDefinite`."""
    return PositiveDefinite() if support is constraints.positive_definite else biject_to(support)


class PositiveDefinite(Transform):
    """Vectors (..., n (n + 1) / 2) to positive definite matrices (..., n, n)."""

    domain = constraints.real_vector
    codomain = constraints.positive_definite
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        factor = self._factor(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(y)
        rows, columns = torch.tril_indices(*y.shape[-2:])
        log = factor.diagonal(dim1=-2, dim2=-1).log()
        return torch.where((rows == columns).to(y.device), log[..., rows], factor[..., rows, columns])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        size = y.shape[-1]
        powers = torch.arange(size + 1, 1, -1, device=x.device)
        return size * math.log(2) + (powers * self._diagonal(x, size)).sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        size = _side(shape[-1])
        return torch.Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))

    def _factor(self, x: Tensor) -> Tensor:
        """The factor L, from its elements by indexing, which can be batched and recorded."""
        size = _side(x.shape[-1])
        rows, columns = torch.arange(size, device=x.device)[:, None], torch.arange(size, device=x.device)
        places = (rows * (rows + 1) // 2 + columns).clamp(max=x.shape[-1] - 1)
        elements = x[..., places]
        below = torch.where(rows > columns, elements, 0.0)
        return below + torch.diag_embed(self._diagonal(x, size).exp())

    def _diagonal(self, x: Tensor, size: int) -> Tensor:
        """The logarithms of the diagonal of L."""
        steps = torch.arange(1, size + 1, device=x.device)
        return x[..., steps * (steps + 1) // 2 - 1]


def _side(elements: int) -> int:
    """The side of a matrix whose lower triangle has so many elements."""
    return (math.isqrt(8 * elements + 1) - 1) // 2
