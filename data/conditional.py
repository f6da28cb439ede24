r"""The exact p(y | x) of an inverse problem, as a distribution.

A target y ~ U(low, high) is observed through a curve with noise, x = curve(y) + e, and is predicted from x. By Bayes'
rule

$$p(y \mid x) = \frac{p_e(x - \mathrm{curve}(y))}{\int_{low}^{high} p_e(x - \mathrm{curve}(t)) \, dt}, \quad
  low \le y \le high,$$

which is multimodal if the curve takes one value more than once. `BoundedConditional` is the common base of
`posterity.data.normal_noise.NormalNoiseConditional`, for e ~ N(0, scale²), and
`posterity.data.uniform_noise.UniformNoiseConditional`, for e ~ U(-scale, scale). The oracles of the simulators in
`posterity.data.inverse` return them; they can also be built for any other curve.

All numbers are computed in float64, in chunks of x that bound the memory, and returned in the dtype of x.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from posterity.validation import check_callable, check_finite, check_floating, check_pair, check_real, shown

Curve = Callable[[Tensor], Tensor]

NODES = 8  # Gauss-Legendre nodes in a cell
CHUNK = 2**20  # float64 numbers in one temporary: 8 MiB
BISECTIONS = 54  # from a whole interval to the last bit of float64


class BoundedConditional(Distribution, ABC):
    """p(y | x) for y ~ U(low, high) and x = curve(y) + noise; subclasses define the noise.

    `log_prob`, `cdf` and `icdf` broadcast their argument with x; `log_prob` is -inf outside the support instead of an
    error. `sample` inverts the distribution function at uniform draws from torch's global generator, as torch's
    distributions; there is no `rsample`.

    Args:
        x: observed values, float32 or float64, whose shape becomes the batch shape.
        curve: maps a float64 tensor of targets to noiseless x, elementwise.
        low, high: the range of y.

    Raises:
        ValueError: x that is not floating or not finite, a range that is empty or infinite, or a curve that does not
            map elementwise to finite numbers.
    """

    arg_constraints = {"x": constraints.real}  # noqa: RUF012 - the name and form that torch reads
    has_rsample = False

    def __init__(self, x: Tensor, curve: Curve, low: float, high: float) -> None:
        check_floating("x", x)
        check_callable("curve", curve, "y")
        check_pair("range of y", (low, high))
        check_finite("x", x)
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

    # Methods of the noise, in float64. `state` has m rows of `_state`; values have shape (m, s).

    @property
    @abstractmethod
    def _state(self) -> Tensor:
        """The numbers that the other methods need for each x, shape (*batch_shape, ...)."""

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

    # Methods of the distribution.

    @property
    def support(self) -> constraints.Constraint:
        """[low, high]; with uniform noise the density is zero in parts of it."""
        return constraints.interval(self.low, self.high)

    @property
    def log_marginal(self) -> Tensor:
        """log p(x), the log density of the observed values, shape `batch_shape`."""
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
        """log p(value | x) in nats; -inf outside the support.

        Raises:
            ValueError: values that are NaN, not real, or do not broadcast with x.
        """
        value = self._checked(value)
        x, y = self.x.double(), value.double()
        # Rounding of x and y to their dtypes must not move a point on the edge of the support out of it.
        slack = 16 * max(torch.finfo(self.x.dtype).eps, torch.finfo(value.dtype).eps)
        inside = (y >= self.low) & (y <= self.high)
        likelihood = self._log_likelihood(x, y.clamp(self.low, self.high), slack)
        log_prob = likelihood - math.log(self.high - self.low) - self._summaries[..., 0]
        return torch.where(inside, log_prob, -math.inf).to(self._result_dtype(value))

    def cdf(self, value: Tensor) -> Tensor:
        """P(Y <= value | x).

        Raises:
            ValueError: values that are NaN, not real, or do not broadcast with x.
        """
        value = self._checked(value)
        y = value.double().clamp(self.low, self.high)
        return self._chunked(self._cdf, y).clamp(0, 1).to(self._result_dtype(value))

    def icdf(self, value: Tensor) -> Tensor:
        """The y with P(Y <= y | x) = value.

        Raises:
            ValueError: a value outside [0, 1], or that does not broadcast with x.
        """
        value = self._checked(value)
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"expected value to be a number in [0, 1], got {value.min():g} to {value.max():g}")
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
        parts = [self._summary(part) for part in self._rows(self.batch_shape).split(max(1, CHUNK // self._width))]
        return torch.cat(parts).reshape(*self.batch_shape, 4)

    def _rows(self, shape: torch.Size) -> Tensor:
        """`_state`, broadcast to a batch of this shape and flattened: shape (m, ...)."""
        own = self._state.shape[self.x.ndim :]
        return self._state.expand((*shape, *own)).reshape((shape.numel(), *own))

    def _chunked(self, function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
        """function(x, values) with `values` broadcast to shape (..., *batch_shape), in chunks."""
        shape = torch.Size(np.broadcast_shapes(values.shape, self.x.shape))
        if 0 in shape:
            return values.expand(shape)
        # Values of one x share its state, unless they broadcast x to a larger batch.
        shared = shape[len(shape) - self.x.ndim :] == self.x.shape
        state = self._rows(self.x.shape if shared else shape)
        rows = values.expand(shape).reshape(-1, len(state)).T  # (m, s)
        result = torch.empty_like(rows)
        wide = max(1, CHUNK // NODES)
        tall = max(1, CHUNK // (self._width + NODES * min(rows.shape[1], wide)))
        for i in range(0, rows.shape[0], tall):
            for j in range(0, rows.shape[1], wide):
                piece = slice(i, i + tall), slice(j, j + wide)
                result[piece] = function(state[i : i + tall], rows[piece].contiguous())
        return result.T.reshape(shape)

    def _checked(self, value: Tensor) -> Tensor:
        check_real("value", value)
        try:
            np.broadcast_shapes(value.shape, self.x.shape)
        except ValueError as error:
            raise ValueError(
                f"expected value to broadcast with x of shape {tuple(self.x.shape)}, got {tuple(value.shape)}"
            ) from error
        if not value.is_floating_point():
            value = value.to(self.x.dtype)
        if torch.isnan(value).any():
            raise ValueError(f"expected value without NaN, got {int(torch.isnan(value).sum())} NaN of {value.numel()}")
        return value

    def _result_dtype(self, value: Tensor) -> torch.dtype:
        return torch.promote_types(self.x.dtype, value.dtype)
