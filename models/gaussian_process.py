r"""Exact regression with a Gaussian process, a reference for Bayesian networks.

For $f \sim GP(0, k)$ and $y = f(x) + \sigma e$ with standard normal $e$, the posterior of $f$ at $x_*$ is normal with

$$m = k_* A^{-1} y, \quad V = k_{**} - k_* A^{-1} k_*^T, \quad A = K + \sigma^2 I,$$

and the log evidence is $\log N(y; 0, A)$ (Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning",
eqs. 2.23, 2.24 and 2.30). The cost is cubic in the number of rows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.models.kernels import Kernel
from posterity.validation import check_callable, check_finite, check_floating, check_number, shown_shape

BLOCK = 256  # rows of a prediction at a time


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A process of mean 0 with covariance ``kernel``, observed with normal noise of standard deviation ``noise``.

    Raises:
        ValueError: a kernel that is not callable, or noise that is not above 0.

    >>> from posterity.models.kernels import squared_exponential
    >>> process = GaussianProcess(squared_exponential(1.0), noise=0.1)
    >>> posterior = process.condition(torch.zeros(1, 1), torch.ones(1))
    >>> posterior.function(torch.tensor([[0.0], [9.0]]))  # one observation: mean 1 / 1.01, variance 0.01 / 1.01
    Normal(loc: torch.Size([2]), scale: torch.Size([2]))
    >>> posterior.function(torch.tensor([[0.0], [9.0]])).variance
    tensor([0.0099, 1.0000])
    """

    kernel: Kernel
    noise: float

    def __post_init__(self) -> None:
        check_callable("kernel", self.kernel, "x, z")
        check_number("noise", self.noise, "(0, inf)")

    def covariance(self, x: Tensor, z: Tensor) -> Tensor:
        """The kernel of x (N, D) and z (M, D) in float64; ``ValueError`` for another shape or values not finite."""
        found = self.kernel(x.double(), z.double())
        if not isinstance(found, Tensor) or found.shape != (len(x), len(z)):
            raise ValueError(f"expected kernel(x, z) of shape ({len(x)}, {len(z)}), got {shown_shape(found)}")
        check_finite("kernel(x, z)", found)
        return found.double()

    def condition(self, x: Tensor, y: Tensor) -> "ConditionedProcess":
        """The posterior given inputs (N, D) and values (N,). The work is done in float64.

        Raises:
            ValueError: x or y has another shape or values that are not finite, the kernel is not symmetric or has
                another shape, or the noise is so small that rounding makes K + noise² I singular.
        """
        check_floating("x", x)
        check_floating("y", y)
        if x.ndim != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"expected x of shape (N, D) and y (N,), got {shown_shape(x)} and {shown_shape(y)}")
        for name, values in (("x", x), ("y", y)):
            check_finite(name, values)
        covariance = self.covariance(x, x)
        if not torch.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * float(covariance.abs().max())):
            raise ValueError("expected a symmetric kernel, got one with kernel(x, z) other than kernel(z, x)")
        noisy = covariance + self.noise**2 * torch.eye(len(x), dtype=torch.double, device=x.device)
        root, failed = torch.linalg.cholesky_ex(noisy)
        if failed:
            raise ValueError(f"expected noise for which K + noise² I is positive definite, got {self.noise}")
        return ConditionedProcess(self, x, root, torch.cholesky_solve(y.double()[:, None], root)[:, 0], y)


@dataclass(frozen=True, eq=False)
class ConditionedProcess:
    """The posterior of a `GaussianProcess`; made by `GaussianProcess.condition`.

    ``root`` (N, N) is the Cholesky factor of K + noise² I, and ``weights`` (N,) are its inverse times y, in float64.
    """

    prior: GaussianProcess
    x: Tensor
    root: Tensor
    weights: Tensor
    y: Tensor

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (M,) and covariance (M, M) of the function at ``x`` (M, D), in float64."""
        self._check(x)
        cross = self.prior.covariance(self.x, x)
        solved = torch.linalg.solve_triangular(self.root, cross, upper=False)
        return cross.T @ self.weights, self.prior.covariance(x, x) - solved.T @ solved

    def function(self, x: Tensor) -> Normal:
        """The function at each row of ``x`` (M, D), batch shape (M,), in the dtype of y."""
        self._check(x)
        parts = []
        for rows in x.split(BLOCK):  # of each block the whole covariance is computed
            mean, covariance = self.moments(rows)
            parts.append(torch.stack([mean, covariance.diagonal().clamp_min(0).sqrt()]))
        mean, sd = torch.cat(parts, 1).to(self.y)
        return Normal(mean, sd, validate_args=False)

    def predictive(self, x: Tensor) -> Normal:
        """A new observation at each row of ``x`` (M, D): the function plus noise, batch shape (M,)."""
        function = self.function(x)
        return Normal(function.loc, (function.scale.double() ** 2 + self.prior.noise**2).sqrt().to(self.y))

    def _check(self, x: Tensor) -> None:
        check_floating("x", x)
        if x.ndim != 2 or x.shape[1] != self.x.shape[1]:
            raise ValueError(f"expected x of shape (M, {self.x.shape[1]}), got {shown_shape(x)}")
        check_finite("x", x)

    @property
    def log_evidence(self) -> float:
        """log p(y | x) in nats."""
        fit = 0.5 * float(self.y.double() @ self.weights)
        return -fit - float(self.root.diagonal().log().sum()) - 0.5 * len(self.y) * math.log(2 * math.pi)
