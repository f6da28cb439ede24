"""Rules of reductions, cumulative operations and matrix products."""

import math
from typing import Any

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Cumulative,
    Product,
    Reduction,
    Unsupported,
    Value,
    View,
    reshaped,
)
from posterity.inference.engine.lanes.rules.pointwise import add, div, mul, sub
from posterity.inference.engine.lanes.rules.registry import as_mask, floats, rule
from posterity.inference.engine.lanes.rules.views import unsqueeze


def _reduce(x: Value, dims: Any, keepdim: bool, start: str, combine: str) -> Value:
    """``combine`` over ``dims`` of ``x``, over all dimensions if there are none, beginning with ``start``."""
    n = len(x.shape)
    removed = {d % n for d in dims} if dims and n else set(range(n))  # a number may be summed over dimension 0
    over = [d for d in sorted(removed) if x.shape[d] != 1]
    shape = tuple(1 if d in over else s for d, s in enumerate(x.shape))
    value: Value = Buffer(Reduction(x, over, start, combine), shape) if over else x
    if keepdim:
        return value
    return reshaped(value, tuple(s for d, s in enumerate(shape) if d not in removed))


@rule("sum")
def total(x: Value, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """The sum over ``dims``."""
    return _reduce(floats(x), [dims] if isinstance(dims, int) else dims, keepdim, "fill(0)", "{0} + {1}")


@rule("mean")
def _mean(x: Value, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    summed = total(x, dims, keepdim)
    return mul(summed, math.prod(summed.shape) / math.prod(x.shape))


@rule("var_mean")
def _var_mean(x: Value, dims: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Value]:
    mean = _mean(x, dims, True)
    deviation = sub(x, mean)
    degrees = max(0.0, math.prod(x.shape) / math.prod(mean.shape) - correction)
    return [div(total(mul(deviation, deviation), dims, keepdim), degrees), _mean(x, dims, keepdim)]


@rule("var")
def _var(x: Value, dims: Any = None, *, correction: float = 1, keepdim: bool = False) -> Value:
    return _var_mean(x, dims, correction=correction, keepdim=keepdim)[0]


@rule("amax")
def _amax(x: Value, dims: Any = (), keepdim: bool = False) -> Value:
    return _reduce(x, dims, keepdim, "fill(-INF)", "v_max({0}, {1})")


@rule("amin")
def _amin(x: Value, dims: Any = (), keepdim: bool = False) -> Value:
    return _reduce(x, dims, keepdim, "fill(INF)", "v_min({0}, {1})")


@rule("max")
def _max(x: Value, *args: Any) -> Value:
    if args:
        raise Unsupported("positions of a maximum")
    return _amax(x)


@rule("min")
def _min(x: Value, *args: Any) -> Value:
    if args:
        raise Unsupported("positions of a minimum")
    return _amin(x)


@rule("prod")
def _prod(x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return _reduce(x, None if dim is None else [dim], keepdim, "fill(1)", "{0} * {1}")


@rule("any")
def _any(x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    dims = [dim] if isinstance(dim, int) else dim
    return as_mask(_reduce(floats(as_mask(x)), dims, keepdim, "fill(0)", "v_max({0}, {1})"))


@rule("bmm")
def _bmm(a: Value, b: Value) -> Value:
    return Buffer(Product(a, b), (a.shape[0], a.shape[1], b.shape[2]))


@rule("mm")
def _mm(a: Value, b: Value) -> Value:
    return _squeeze_first(_bmm(unsqueeze(a, 0), unsqueeze(b, 0)))


def _squeeze_first(x: Value) -> Value:
    return View(x, x.shape[1:], lambda i: ("0", *i))


@rule("addmm")
def _addmm(c: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    return add(mul(c, beta), mul(_mm(a, b), alpha))


@rule("cumsum")
def _cumsum(x: Value, dim: int, **_: Any) -> Value:
    return Buffer(Cumulative(x, dim % len(x.shape)), x.shape) if x.shape else x


@rule("cumprod")
def _cumprod(x: Value, dim: int, **_: Any) -> Value:
    return Buffer(Cumulative(x, dim % len(x.shape), 1, "*"), x.shape) if x.shape else x
