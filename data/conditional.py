r"""The exact p(y | x) of an inverse problem, as a distribution.

A target y ~ U(low, high) is seen through a curve with noise, x = curve(y) + e, and is to be predicted from x. By
Bayes' rule

    p(y | x) = p_e(x - curve(y)) / integral of p_e(x - curve(t)) dt over (low, high),     low <= y <= high,

which has several modes wherever the curve takes one value more than once. Use `NormalNoiseConditional` for
e ~ N(0, scale²) and `UniformNoiseConditional` for e ~ U(-scale, scale). They are what `oracle(x)` of the
simulators in `posterity.data.inverse` returns; make one directly for a curve of your own.

Everything is computed in float64 and returned in the dtype of x: integrals by Gauss-Legendre quadrature on cells
no wider than the likelihood varies (normal noise), or in closed form between the roots of curve(y) = x ± scale on
the monotone pieces of the curve (uniform noise). Work goes in chunks of x, so memory stays bounded for any number
of points.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from posterity.validation import check_floating, check_number, check_real, is_number, shown

Curve = Callable[[Tensor], Tensor]

_ORDER = 8  # Gauss-Legendre nodes in a cell
_CELLS = 2**20  # at most, in an integral
_BUDGET = 2**20  # float64 numbers in one temporary: 8 MiB
_HALVINGS = 54  # bisections from a whole interval to the last bit of float64


class BoundedConditional(Distribution, ABC):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + noise. Abstract: the noise is the subclass's.

    Args:
        x: what was seen, any shape, which becomes the batch shape. float32 or float64.
        curve: maps a float64 tensor of targets to noiseless x, elementwise.
        low, high: the range of y.

    `log_prob`, `cdf` and `icdf` broadcast their argument with x; `log_prob` is -inf outside of the support rather
    than an error. `sample` inverts the CDF at uniform draws of torch's global generator, as torch's distributions
    do; there is no `rsample`.

    Raises:
        ValueError: x that is not floating or not finite, or a range that is empty or infinite.
    """

    arg_constraints = {"x": constraints.real}  # noqa: RUF012 - the name and form that torch reads
    has_rsample = False

    def __init__(self, x: Tensor, curve: Curve, low: float, high: float) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ValueError(f"expected a floating x, got {shown(x)}")
        check_floating("x", x)
        if not callable(curve):
            raise ValueError(f"expected curve to be a function of y, got {curve!r}")
        if not (is_number(low) and is_number(high) and low < high):
            raise ValueError(f"expected a finite range low < high, got ({low}, {high})")
        if not torch.isfinite(x).all():
            raise ValueError(f"expected finite x, got {int((~torch.isfinite(x)).sum())} of {x.numel()} not finite")
        ends = torch.tensor([low, high], dtype=torch.float64, device=x.device)
        try:
            seen = curve(ends)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"expected curve to map tensors of float64, got {type(error).__name__}: {error}"
            ) from error
        if not isinstance(seen, Tensor) or seen.shape != ends.shape or not bool(torch.isfinite(seen).all()):
            raise ValueError(
                f"expected curve to map tensors elementwise to finite numbers, got {shown(seen)} of 2 numbers"
            )
        self.x, self.curve, self.low, self.high = x, curve, low, high
        super().__init__(x.shape, validate_args=False)

    # What a noise has to say, all in float64. `state` holds m rows of `_state`; values have shape (m, s).

    @property
    @abstractmethod
    def _state(self) -> Tensor:
        """What the subclass wants to know about each x, shape (*batch_shape, ...)."""

    @abstractmethod
    def _log_likelihood(self, x: Tensor, y: Tensor, slack: float) -> Tensor:
        """log p(x | y) for y in [low, high], elementwise; `slack` is the relative rounding error in x and y."""

    @abstractmethod
    def _cdf(self, state: Tensor, y: Tensor) -> Tensor:
        """P(Y <= y | x) for y in [low, high]."""

    @abstractmethod
    def _icdf(self, state: Tensor, probability: Tensor) -> Tensor:
        """The y in [low, high] with P(Y <= y | x) = probability."""

    @abstractmethod
    def _summary(self, state: Tensor) -> Tensor:
        """log p(x), E[y | x], Var[y | x] and the entropy of y given x, shape (m, 4)."""

    @property
    def _width(self) -> int:
        """How many numbers the subclass needs at once for one x."""
        return 1

    # The distribution, from these.

    @property
    def support(self) -> constraints.Constraint:
        """Within [low, high]; for uniform noise a part of it."""
        return constraints.interval(self.low, self.high)

    @property
    def log_marginal(self) -> Tensor:
        """log p(x), the log density of what was seen, shape `batch_shape`."""
        return self._summaries[..., 0].to(self.x.dtype)

    @property
    def mean(self) -> Tensor:
        """E[y | x], shape `batch_shape`."""
        return self._summaries[..., 1].to(self.x.dtype)

    @property
    def variance(self) -> Tensor:
        """Var[y | x], shape `batch_shape`."""
        return self._summaries[..., 2].to(self.x.dtype)

    def entropy(self) -> Tensor:
        """-E[log p(y | x) | x], shape `batch_shape`. Its mean over p(x) is the floor of the expected NLL."""
        return self._summaries[..., 3].to(self.x.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value | x), in nats; -inf outside of the support. Raises ValueError for NaN."""
        value = self._checked(value)
        x, y = self.x.double(), value.double()
        # Rounding x and y to their dtypes must not push a point on the edge of the support out of it.
        slack = 16 * max(torch.finfo(self.x.dtype).eps, torch.finfo(value.dtype).eps)
        inside = (y >= self.low) & (y <= self.high)
        likelihood = self._log_likelihood(x, y.clamp(self.low, self.high), slack)
        log_prob = likelihood - math.log(self.high - self.low) - self._summaries[..., 0]
        return torch.where(inside, log_prob, -math.inf).to(self._result_dtype(value))

    def cdf(self, value: Tensor) -> Tensor:
        """P(Y <= value | x). Raises ValueError for NaN."""
        value = self._checked(value)
        y = value.double().clamp(self.low, self.high)
        return self._chunked(self._cdf, y).clamp(0, 1).to(self._result_dtype(value))

    def icdf(self, value: Tensor) -> Tensor:
        """The y with P(Y <= y | x) = value. Raises ValueError for a value outside of [0, 1]."""
        value = self._checked(value)
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"expected probabilities in [0, 1], got {value.min():g} to {value.max():g}")
        y = self._chunked(self._icdf, value.double())
        return y.clamp(self.low, self.high).to(self._result_dtype(value))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Independent draws, shape `sample_shape + batch_shape`, in the dtype of x."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            probability = torch.rand(shape, dtype=torch.float64, device=self.x.device)
            y = self._chunked(self._icdf, probability)
            return y.clamp(self.low, self.high).to(self.x.dtype)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "BoundedConditional":
        """The same conditional with x broadcast to `batch_shape`."""
        new = copy.copy(self)
        for cached in ("_summaries", "_intervals"):
            new.__dict__.pop(cached, None)
        new.x = self.x.expand(torch.Size(batch_shape))
        new._batch_shape = new.x.shape
        return new

    @cached_property
    def _summaries(self) -> Tensor:
        parts = [self._summary(part) for part in self._rows(self.batch_shape).split(max(1, _BUDGET // self._width))]
        return torch.cat(parts).reshape(*self.batch_shape, 4)

    def _rows(self, shape: torch.Size) -> Tensor:
        """`_state`, broadcast to a batch of this shape, one row for each place: shape (m, ...)."""
        own = self._state.shape[self.x.ndim :]
        return self._state.expand((*shape, *own)).reshape((shape.numel(), *own))

    def _chunked(self, function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
        """function(x, values) with `values` broadcast to shape (..., *batch_shape), a bounded piece at a time."""
        shape = torch.broadcast_shapes(values.shape, self.x.shape)
        if 0 in shape:
            return values.expand(shape)
        # Values of one x share the work for it, unless they broadcast x itself to a larger batch.
        shared = shape[len(shape) - self.x.ndim :] == self.x.shape
        state = self._rows(self.x.shape if shared else shape)
        rows = values.expand(shape).reshape(-1, len(state)).T  # (m, s)
        result = torch.empty_like(rows)
        wide = max(1, _BUDGET // _ORDER)
        tall = max(1, _BUDGET // (self._width + _ORDER * min(rows.shape[1], wide)))
        for i in range(0, rows.shape[0], tall):
            for j in range(0, rows.shape[1], wide):
                piece = slice(i, i + tall), slice(j, j + wide)
                result[piece] = function(state[i : i + tall], rows[piece].contiguous())
        return result.T.reshape(shape)

    def _checked(self, value: Tensor) -> Tensor:
        check_real("value", value)
        try:
            torch.broadcast_shapes(value.shape, self.x.shape)
        except RuntimeError as error:
            raise ValueError(
                f"expected a value that broadcasts with x of shape {tuple(self.x.shape)}, got {tuple(value.shape)}"
            ) from error
        if not value.is_floating_point():
            value = value.to(self.x.dtype)
        if torch.isnan(value).any():
            raise ValueError(f"expected numbers, got {int(torch.isnan(value).sum())} NaN of {value.numel()}")
        return value

    def _result_dtype(self, value: Tensor) -> torch.dtype:
        return torch.promote_types(self.x.dtype, value.dtype)


class NormalNoiseConditional(BoundedConditional):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + N(0, scale²).

    Args:
        x, curve, low, high: as in `BoundedConditional`; the curve must be smooth.
        scale: standard deviation of the noise, in units of x.

    Integrals use 8-point Gauss-Legendre quadrature on equal cells in each of which the curve moves by at most
    `scale`. The error of log p is at rounding for x near the curve, below 1e-7 for x up to 10 `scale` beyond its
    ends, and below 1e-4 up to 20.

    Raises:
        ValueError: a scale that is not positive, and as `BoundedConditional`.

    >>> line = NormalNoiseConditional(torch.tensor([0.5]), lambda y: y, low=0.0, high=1.0, scale=0.1)
    >>> line.mean, line.stddev
    (tensor([0.5000]), tensor([0.1000]))
    """

    def __init__(self, x: Tensor, curve: Curve, low: float, high: float, scale: float) -> None:
        _check_scale(scale)
        super().__init__(x, curve, low, high)
        self.scale = scale
        grid = torch.linspace(low, high, 4097, dtype=torch.float64, device=x.device)
        steepest = float(curve(grid).diff().abs().max()) / float(grid[1] - grid[0])
        if not steepest * (high - low) < _CELLS * scale:
            raise ValueError(
                f"expected a finite curve and a scale of at least {steepest * (high - low) / _CELLS:g}, a millionth of "
                f"what the curve moves by, got {scale!r}"
            )
        self._cells = max(16, math.ceil(steepest * (high - low) / scale))
        nodes, weights = np.polynomial.legendre.leggauss(_ORDER)
        self._nodes = torch.from_numpy((nodes + 1) / 2).to(x.device)  # on [0, 1]
        self._weights = torch.from_numpy(weights / 2).to(x.device)

    @property
    def _state(self) -> Tensor:
        return self.x.double()

    @property
    def _width(self) -> int:
        return self._cells * _ORDER

    @property
    def _cell_width(self) -> float:
        return (self.high - self.low) / self._cells

    def _log_likelihood(self, x: Tensor, y: Tensor, slack: float) -> Tensor:
        return self._exponent(x, y) - math.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def _exponent(self, x: Tensor, y: Tensor) -> Tensor:
        return -0.5 * ((x - self.curve(y)) / self.scale) ** 2

    def _grid(self) -> Tensor:
        """Quadrature nodes, shape (cells, order)."""
        starts = torch.arange(self._cells, dtype=torch.float64, device=self.x.device)
        return self.low + self._cell_width * (starts[:, None] + self._nodes)

    def _summary(self, x: Tensor) -> Tensor:
        grid = self._grid().reshape(-1)
        weights = (self._weights * self._cell_width).repeat(self._cells)
        exponent = self._exponent(x[:, None], grid)
        top = exponent.amax(1)  # taken out, so that an x far from the curve does not underflow
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
        """Integral of the density up to each cell's edge, (m, cells + 1), and the log of its unit, (m, 1)."""
        exponent = self._exponent(x[:, None, None], self._grid())
        top = exponent.amax((1, 2))
        mass = (exponent - top[:, None, None]).exp() @ self._weights * self._cell_width
        return torch.nn.functional.pad(mass.cumsum(1), (1, 0)), top[:, None]

    def _partial(self, x: Tensor, top: Tensor, start: Tensor, width: Tensor) -> Tensor:
        """Integral of the unnormalised density from `start` to `start + width`, at most one cell."""
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
        # Newton within the cell, from its secant; a bracket that only shrinks catches steps that leave it.
        low, high = torch.zeros_like(target), torch.full_like(target, self._cell_width)
        width = (self._cell_width * target / mass).nan_to_num(0.0).clamp(0, self._cell_width)
        for _ in range(_HALVINGS):
            error = self._partial(x, top, start, width) - target
            low, high = torch.where(error < 0, width, low), torch.where(error < 0, high, width)
            slope = (self._exponent(x[:, None], start + width) - top).exp()
            newton = width - error / slope
            step = torch.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
            moved, width = (step - width).abs().max(), step
            if moved <= 1e-13 * self._cell_width:
                break
        return start + width


class UniformNoiseConditional(BoundedConditional):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + U(-scale, scale): constant on {y: |x - curve(y)| <= scale}.

    Args:
        x, curve, low, high: as in `BoundedConditional`.
        scale: half the width of the noise, in units of x.
        turning_points: where the curve changes direction, increasing, strictly between low and high. Between two
            of them it must be strictly monotone.

    `log_prob` allows for the rounding of x and y to their dtype at the edges of the support.

    Raises:
        ValueError: an x that no y could have given (the message counts them), a scale that is not positive,
            turning points that are not increasing or not in the range, and as `BoundedConditional`.

    >>> line = UniformNoiseConditional(torch.tensor([0.5]), lambda y: y, low=0.0, high=1.0, scale=0.1)
    >>> line.log_prob(torch.tensor([[0.45], [0.65]])).exp()
    tensor([[5.],
            [0.]])
    """

    def __init__(
        self, x: Tensor, curve: Curve, low: float, high: float, scale: float, turning_points: Sequence[float] = ()
    ) -> None:
        _check_scale(scale)
        super().__init__(x, curve, low, high)
        self.scale = scale
        if isinstance(turning_points, str | Tensor) or not hasattr(turning_points, "__iter__"):
            raise ValueError(f"expected turning points as a sequence of numbers, got {turning_points!r}")
        edges = [low, *turning_points, high]
        if not all(is_number(edge) for edge in edges) or not all(a < b for a, b in pairwise(edges)):
            raise ValueError(
                f"expected increasing turning points strictly between {low} and {high}, got {list(turning_points)}"
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
        """Ends of the support in each monotone piece, (*batch_shape, pieces, 2); an empty one has width 0."""
        x = self.x.double().reshape(-1)
        parts = [self._solve(part) for part in x.split(max(1, _BUDGET // self._width))]
        return torch.cat(parts).reshape(*self.x.shape, len(self._edges) - 1, 2)

    def _solve(self, x: Tensor) -> Tensor:
        """The same for x of shape (m,), by bisection of curve(y) = x ± scale in each piece."""
        ends = x[:, None, None] + self.scale * torch.tensor([-1.0, 1.0], dtype=x.dtype, device=x.device)
        low, high = self._edges[:-1, None], self._edges[1:, None]
        sign = (self.curve(high) - self.curve(low)).sign()
        low, high = low.expand(len(x), -1, 2), high.expand(len(x), -1, 2)
        for _ in range(_HALVINGS):  # where there is no root, both ends go to the same edge of the piece
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
        for piece in range(low.shape[1]):  # a few pieces: a loop needs no (m, s, pieces) temporary
            start, stop = low[:, piece, None], high[:, piece, None]
            below += y.clamp(start, stop) - start
        return below / (high - low).sum(-1, keepdim=True)

    def _icdf(self, intervals: Tensor, probability: Tensor) -> Tensor:
        low, high = intervals.unbind(-1)
        running = torch.nn.functional.pad((high - low).cumsum(-1), (1, 0))
        target = probability * running[:, -1:]
        piece = torch.searchsorted(running[:, 1:].contiguous(), target).clamp(max=low.shape[1] - 1)
        return low.gather(1, piece) + (target - running.gather(1, piece))


def _check_scale(scale: float) -> None:
    check_number("scale", scale, "(0, inf)")
