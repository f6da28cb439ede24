"""The exact p(y | x) of an inverse problem with normal noise: `NormalNoiseConditional`."""

import math

import numpy as np
import torch
from torch import Tensor

from posterity.data.conditional import BISECTIONS, NODES, BoundedConditional, Curve
from posterity.validation import check_number

CELLS = 2**20  # cells of an integral, at most


class NormalNoiseConditional(BoundedConditional):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + N(0, scale²).

    Integrals use 8-point Gauss-Legendre quadrature on equal cells in which the curve changes by at most `scale`. The
    error of log p is that of rounding for x near the curve, below 1e-7 for x up to 10 `scale` beyond its ends, and
    below 1e-4 up to 20 `scale`.

    Args:
        x, curve, low, high: as in `BoundedConditional`; the curve must be smooth.
        scale: standard deviation of the noise, in units of x.

    Raises:
        ValueError: a scale that is not positive or less than a millionth of the total change of the curve, and as
            `BoundedConditional`.

    >>> line = NormalNoiseConditional(torch.tensor([0.5]), lambda y: y, low=0.0, high=1.0, scale=0.1)
    >>> line.mean, line.stddev
    (tensor([0.5000]), tensor([0.1000]))
    """

    def __init__(self, x: Tensor, curve: Curve, low: float, high: float, scale: float) -> None:
        check_number("scale", scale, "(0, inf)")
        super().__init__(x, curve, low, high)
        self.scale = scale
        grid = torch.linspace(low, high, 4097, dtype=torch.float64, device=x.device)
        steepest = float(curve(grid).diff().abs().max()) / float(grid[1] - grid[0])
        if not steepest * (high - low) < CELLS * scale:
            raise ValueError(
                f"expected a finite curve and a scale of at least {steepest * (high - low) / CELLS:g}, a millionth of "
                f"the total change of the curve, got {scale!r}"
            )
        self._cells = max(16, math.ceil(steepest * (high - low) / scale))
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        self._nodes = torch.from_numpy((nodes + 1) / 2).to(x.device)  # on [0, 1]
        self._weights = torch.from_numpy(weights / 2).to(x.device)

    @property
    def _state(self) -> Tensor:
        return self.x.double()

    @property
    def _width(self) -> int:
        return self._cells * NODES

    @property
    def _cell_width(self) -> float:
        return (self.high - self.low) / self._cells

    def _log_likelihood(self, x: Tensor, y: Tensor, slack: float) -> Tensor:
        return self._exponent(x, y) - math.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def _exponent(self, x: Tensor, y: Tensor) -> Tensor:
        return -0.5 * ((x - self.curve(y)) / self.scale) ** 2

    def _grid(self) -> Tensor:
        """Quadrature nodes, shape (cells, nodes in a cell)."""
        starts = torch.arange(self._cells, dtype=torch.float64, device=self.x.device)
        return self.low + self._cell_width * (starts[:, None] + self._nodes)

    def _summary(self, x: Tensor) -> Tensor:
        grid = self._grid().reshape(-1)
        weights = (self._weights * self._cell_width).repeat(self._cells)
        exponent = self._exponent(x[:, None], grid)
        top = exponent.amax(1)  # subtracted, so that the density of an x far from the curve does not underflow
        density = (exponent - top[:, None]).exp()
        total = density @ weights
        mean = density @ (weights * grid) / total
        # About the middle of the range, so that the difference of squares does not cancel far from zero.
        middle = 0.5 * (self.low + self.high)
        variance = density @ (weights * (grid - middle) ** 2) / total - (mean - middle) ** 2
        log_integral = total.log() + top
        entropy = log_integral - (density * exponent) @ weights / total
        log_density = log_integral - math.log(self.scale * math.sqrt(2 * math.pi) * (self.high - self.low))
        return torch.stack([log_density, mean, variance, entropy], -1)

    def _masses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Integrals of the density up to the edges of the cells, (m, cells + 1), and the log of their unit, (m, 1)."""
        exponent = self._exponent(x[:, None, None], self._grid())
        top = exponent.amax((1, 2))
        mass = (exponent - top[:, None, None]).exp() @ self._weights * self._cell_width
        return torch.nn.functional.pad(mass.cumsum(1), (1, 0)), top[:, None]

    def _partial(self, x: Tensor, top: Tensor, start: Tensor, width: Tensor) -> Tensor:
        """The integral of the unnormalised density from `start` to `start + width`, at most one cell."""
        y = start[..., None] + width[..., None] * self._nodes
        density = (self._exponent(x[:, None, None], y) - top[..., None]).exp()
        return density @ self._weights * width

    def _cdf(self, x: Tensor, y: Tensor) -> Tensor:
        running, top = self._masses(x)
        cell = ((y - self.low) / self._cell_width).long().clamp(max=self._cells - 1)
        start = self.low + cell.to(y) * self._cell_width
        below = running.gather(1, cell) + self._partial(x, top, start, y - start)
        return below / running[:, -1:]

    def _icdf(self, x: Tensor, probability: Tensor) -> Tensor:
        running, top = self._masses(x)
        target = probability * running[:, -1:]
        cell = torch.searchsorted(running[:, 1:].contiguous(), target).clamp(max=self._cells - 1)
        start = self.low + cell.to(target) * self._cell_width
        target = target - running.gather(1, cell)
        mass = running.gather(1, cell + 1) - running.gather(1, cell)
        # Newton steps within the cell, from its secant; a step that leaves the bracket is replaced by a bisection.
        low, high = torch.zeros_like(target), torch.full_like(target, self._cell_width)
        width = (self._cell_width * target / mass).nan_to_num(0.0).clamp(0, self._cell_width)
        for _ in range(BISECTIONS):
            error = self._partial(x, top, start, width) - target
            low, high = torch.where(error < 0, width, low), torch.where(error < 0, high, width)
            slope = (self._exponent(x[:, None], start + width) - top).exp()
            newton = width - error / slope
            step = torch.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
            moved, width = (step - width).abs().max(), step
            if moved <= 1e-13 * self._cell_width:
                break
        return start + width
