"""Rules of elementwise operations."""

import math
from typing import Any

import numpy as np
import torch

from posterity.inference.engine.lanes.expressions import Constant, Pointwise, Unsupported, Value
from posterity.inference.engine.lanes.rules.pieces import joined
from posterity.inference.engine.lanes.rules.registry import (
    MASK_AS_FLOAT,
    RULES,
    as_mask,
    as_value,
    expanded,
    floats,
    is_constant,
    rule,
)

EXPENSIVE = 8  # cost of a division or elementary function, in additions

BY_LANE = (
    "tan", "atan", "asin", "acos", "sinh", "cosh", "erfc", "lgamma", "digamma", "log1p", "expm1", "floor", "ceil",
)  # fmt: skip
UNARY = {
    "neg": ("-{0}", 1), "abs": ("v_abs({0})", 1), "relu": ("v_max({0}, fill(0))", 1), "sign": ("v_sign({0})", 1),
    "reciprocal": ("(1 / {0})", EXPENSIVE), "rsqrt": ("(1 / v_sqrt({0}))", EXPENSIVE),
    "log2": ("v_log({0}) * (S)" + repr(1 / math.log(2)), EXPENSIVE),
    "log10": ("v_log({0}) * (S)" + repr(1 / math.log(10)), EXPENSIVE),
    **{n: (f"v_{n}({{0}})", EXPENSIVE) for n in ("exp", "log", "tanh", "sigmoid", "sqrt", "sin", "cos", "erf")},
    **{n: (f"v_{n}({{0}})", 3 * EXPENSIVE) for n in BY_LANE},
}  # fmt: skip
TESTS = {"isnan": "({0} != {0})", "isinf": "(v_abs({0}) == INF)"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
SAME = ("clone", "alias")

for _name, (_form, _weight) in UNARY.items():
    RULES[_name] = lambda x, form=_form, weight=_weight, **_: Pointwise(form, floats(x), weight=weight)
for _name, _form in TESTS.items():
    RULES[_name] = lambda x, form=_form: Pointwise(form, x, mask=True)
for _name, _sign in COMPARE.items():
    RULES[_name] = lambda a, b, sign=_sign: Pointwise(
        f"({{0}} {sign} {{1}})", floats(as_value(a)), floats(as_value(b)), mask=True
    )
for _name in SAME:
    RULES[_name] = lambda x, **_: x


@rule("_to_copy")
def _convert(x: Value, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Value:
    if dtype is None or (dtype.is_floating_point and not x.mask) or (dtype == torch.bool and x.mask):
        return x
    if dtype.is_floating_point:
        return floats(x)
    raise Unsupported(f"conversion to {dtype}")


@rule("add")
def add(a: Any, b: Any, alpha: float = 1) -> Value:
    """``a + alpha * b``."""
    a, b = floats(as_value(a)), floats(as_value(b))
    if alpha != 1:
        b = mul(b, alpha)
    if is_constant(a, 0):
        return expanded(b, a.shape)
    if is_constant(b, 0):
        return expanded(a, b.shape)
    return joined(a, b, add) or Pointwise("({0} + {1})", a, b)


@rule("sub")
def sub(a: Any, b: Any, alpha: float = 1) -> Value:
    """``a - alpha * b``."""
    a, b = floats(as_value(a)), floats(as_value(b))
    if alpha != 1:
        b = mul(b, alpha)
    if is_constant(b, 0):
        return expanded(a, b.shape)
    if is_constant(a, 0):
        return expanded(Pointwise("-{0}", b), a.shape)
    return Pointwise("({0} - {1})", a, b)


def _finite(value: Value) -> bool:
    """Whether the value is finite in every chain, which is known of constants and of masks as numbers."""
    if isinstance(value, Constant):
        return bool(torch.isfinite(value.tensor).all())
    return isinstance(value, Pointwise) and value.form == MASK_AS_FLOAT


@rule("mul")
def mul(a: Any, b: Any) -> Value:
    """``a * b``; of two masks a mask."""
    a, b = as_value(a), as_value(b)
    if a.mask and b.mask:
        return _and(a, b)
    a, b = floats(a), floats(b)
    for one, other in ((a, b), (b, a)):
        if is_constant(one, 1):
            return expanded(other, one.shape)
        if is_constant(one, 0) and _finite(other):  # zero times nan is nan
            return Constant(torch.zeros(()).expand(np.broadcast_shapes(a.shape, b.shape)))
        if is_constant(one, -1):
            return expanded(Pointwise("-{0}", other), one.shape)
    return Pointwise("({0} * {1})", a, b)


@rule("div")
def div(a: Any, b: Any, rounding_mode: str | None = None) -> Value:
    """``a / b``; by a constant, a product with its reciprocal."""
    if rounding_mode is not None:
        raise Unsupported("integer division")
    a, b = floats(as_value(a)), floats(as_value(b))
    if is_constant(b, 1):
        return expanded(a, b.shape)
    if isinstance(b, Constant):
        return Pointwise("({0} * {1})", a, Constant(1 / b.tensor.double().expand(b.shape)))
    return Pointwise("({0} / {1})", a, b, weight=4)


@rule("pow")
def _pow(a: Any, b: Any) -> Value:
    a, b = as_value(a), as_value(b)
    power = b.uniform if isinstance(b, Constant) else None
    forms = {
        2.0: "({0} * {0})",
        3.0: "({0} * {0} * {0})",
        -1.0: "(1 / {0})",
        0.5: "v_sqrt({0})",
        -0.5: "(1 / v_sqrt({0}))",
        -2.0: "(1 / ({0} * {0}))",
    }
    if power == 1:
        return expanded(a, b.shape)
    if power == 0:
        return Constant(torch.ones(()).expand(np.broadcast_shapes(a.shape, b.shape)))
    if power in forms:
        return expanded(Pointwise(forms[power], a, weight=1 if power > 1 else 4), b.shape)
    return Pointwise("v_pow({0}, {1})", a, b, weight=3 * EXPENSIVE)


@rule("maximum")
def _maximum(a: Value, b: Value) -> Value:
    return Pointwise("v_max({0}, {1})", a, b)


@rule("minimum")
def _minimum(a: Value, b: Value) -> Value:
    return Pointwise("v_min({0}, {1})", a, b)


@rule("clamp")
def _clamp(x: Value, min: Any = None, max: Any = None) -> Value:
    x = x if min is None else _maximum(x, as_value(min))
    return x if max is None else _minimum(x, as_value(max))


RULES["hardtanh"] = lambda x, min_val=-1.0, max_val=1.0: _clamp(x, min_val, max_val)


@rule("where")
def where(condition: Value, a: Any, b: Any) -> Value:
    """``a`` where ``condition`` holds, else ``b``."""
    condition, a, b = as_mask(condition), as_value(a), as_value(b)
    shape = tuple(np.broadcast_shapes(condition.shape, a.shape, b.shape))
    if isinstance(condition, Constant) and condition.uniform is not None:
        return expanded(a if condition.uniform else b, shape)
    if a.mask != b.mask:
        a, b = floats(a), floats(b)
    return Pointwise("({0} ? {1} : {2})", condition, a, b, mask=a.mask)


@rule("logical_and", "bitwise_and")
def _and(a: Value, b: Value) -> Value:
    return Pointwise("({0} & {1})", as_mask(a), as_mask(b), mask=True)


@rule("logical_or", "bitwise_or")
def _or(a: Value, b: Value) -> Value:
    return Pointwise("({0} | {1})", as_mask(a), as_mask(b), mask=True)


@rule("logical_not", "bitwise_not")
def _not(a: Value) -> Value:
    return Pointwise("~{0}", as_mask(a), mask=True)


@rule("logical_xor", "bitwise_xor")
def _xor(a: Value, b: Value) -> Value:
    return Pointwise("({0} ^ {1})", as_mask(a), as_mask(b), mask=True)


@rule("full_like")
def _full_like(x: Value, number: float, **_: Any) -> Value:
    return Constant(torch.tensor(number).expand(x.shape))
