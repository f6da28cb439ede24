"""The exact p(y | x) of an inverse problem with uniform noise: `UniformNoiseConditional`."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from posterity.data.conditional import BISECTIONS, CHUNK, BoundedConditional, Curve
from posterity.validation import check_number, is_number


class UniformNoiseConditional(BoundedConditional):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + U(-scale, scale): constant on {y: |x - curve(y)| <= scale}.

    The ends of this set are the roots of curve(y) = x ± scale on the monotone pieces of the curve; integrals are exact.
    `log_prob` allows for the rounding of x and y to their dtypes at the edges of the support.

    Args:
        x, curve, low, high: as in `BoundedConditional`.
        scale: half the width of the noise, in units of x.
        turning_points: y at which the curve changes direction, in increasing order, strictly between low and high. The
            curve must be strictly monotone between neighbouring ones.

    Raises:
        ValueError: an x with p(x) = 0 (the message counts them), a scale that is not positive, turning points that are
            not increasing or not in the range, and as `BoundedConditional`.

    >>> line = UniformNoiseConditional(torch.tensor([0.5]), lambda y: y, low=0.0, high=1.0, scale=0.1)
    >>> line.log_prob(torch.tensor([[0.45], [0.65]])).exp()
    tensor([[5.],
            [0.]])
    """

    def __init__(
        self, x: Tensor, curve: Curve, low: float, high: float, scale: float, turning_points: Sequence[float] = ()
    ) -> None:
        check_number("scale", scale, "(0, inf)")
        super().__init__(x, curve, low, high)
        self.scale = scale
        if isinstance(turning_points, str | Tensor) or not hasattr(turning_points, "__iter__"):
            raise ValueError(f"expected turning_points to be a sequence of numbers, got {turning_points!r}")
        edges = [low, *turning_points, high]
        if not all(is_number(edge) for edge in edges) or not all(a < b for a, b in pairwise(edges)):
            raise ValueError(
                f"expected turning_points to increase strictly between {low} and {high}, got {list(turning_points)}"
            )
        self._edges = torch.tensor(edges, dtype=torch.float64, device=x.device)
        out_of_reach = (self._intervals[..., 1] - self._intervals[..., 0]).sum(-1) <= 0
        if out_of_reach.any():
            raise ValueError(
                f"expected x within {scale:g} of the curve, got {int(out_of_reach.sum())} of {x.numel()} with p(x) = 0"
            )

    @property
    def _state(self) -> Tensor:
        return self._intervals

    @property
    def _width(self) -> int:
        return 2 * len(self._edges)

    @cached_property
    def _intervals(self) -> Tensor:
        """Ends of the support in each monotone piece, (*batch_shape, pieces, 2); equal if it is empty there."""
        x = self.x.double().reshape(-1)
        parts = [self._solve(part) for part in x.split(max(1, CHUNK // self._width))]
        return torch.cat(parts).reshape(*self.x.shape, len(self._edges) - 1, 2)

    def _solve(self, x: Tensor) -> Tensor:
        """`_intervals` for x of shape (m,), by bisection of curve(y) = x ± scale in each piece."""
        ends = x[:, None, None] + self.scale * torch.tensor([-1.0, 1.0], dtype=x.dtype, device=x.device)
        low, high = self._edges[:-1, None], self._edges[1:, None]
        sign = (self.curve(high) - self.curve(low)).sign()
        low, high = low.expand(len(x), -1, 2), high.expand(len(x), -1, 2)
        for _ in range(BISECTIONS):  # without a root, both ends converge to the same edge of the piece
            middle = 0.5 * (low + high)
            short = sign * (self.curve(middle) - ends) < 0
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return (0.5 * (low + high)).sort(-1).values

    def _log_likelihood(self, x: Tensor, y: Tensor, slack: float) -> Tensor:
        distance = (x - self.curve(y)).abs()
        outside = distance > self.scale + slack * x.abs().clamp(min=1)
        return torch.full_like(distance, -math.log(2 * self.scale)).masked_fill(outside, -math.inf)

    def _summary(self, intervals: Tensor) -> Tensor:
        low, high = intervals.unbind(-1)
        width = high - low
        total = width.sum(-1)
        centre = 0.5 * (low + high)
        mean = (width * centre).sum(-1) / total
        variance = (width * ((centre - mean[:, None]) ** 2 + width**2 / 12)).sum(-1) / total
        log_density = (total / (2 * self.scale * (self.high - self.low))).log()
        return torch.stack([log_density, mean, variance, total.log()], -1)

    def _cdf(self, intervals: Tensor, y: Tensor) -> Tensor:
        low, high = intervals.unbind(-1)
        below = torch.zeros_like(y)
        for piece in range(low.shape[1]):  # few pieces: a loop avoids a temporary of shape (m, s, pieces)
            start, stop = low[:, piece, None], high[:, piece, None]
            below += y.clamp(start, stop) - start
        return below / (high - low).sum(-1, keepdim=True)

    def _icdf(self, intervals: Tensor, probability: Tensor) -> Tensor:
        low, high = intervals.unbind(-1)
        running = torch.nn.functional.pad((high - low).cumsum(-1), (1, 0))
        target = probability * running[:, -1:]
        piece = torch.searchsorted(running[:, 1:].contiguous(), target).clamp(max=low.shape[1] - 1)
        return low.gather(1, piece) + (target - running.gather(1, piece))
