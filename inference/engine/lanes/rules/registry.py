"""The table of rules, and functions that many rules use: values from numbers and tensors, masks, broadcasting."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine.lanes.expressions import Constant, Pointwise, Shape, Value, View, broadcast_index

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
MASK_AS_FLOAT = "({0} ? fill(1) : fill(0))"


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these aten operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def as_value(x: Any, dtype: torch.dtype | None = None) -> Value:
    """A number or tensor as a constant; a floating tensor is converted to ``dtype``."""
    if isinstance(x, Value):
        return x
    if isinstance(x, Tensor):
        return Constant(x.to(dtype) if x.is_floating_point() and dtype is not None else x)
    return Constant(torch.tensor(x, dtype=torch.bool if isinstance(x, bool) else torch.double))


def is_constant(value: Value, number: float) -> bool:
    """Whether all elements of ``value`` are constant and equal to ``number``."""
    return isinstance(value, Constant) and value.uniform == number and not value.mask


def floats(value: Value) -> Value:
    """A mask as numbers 0 and 1; any other value unchanged."""
    return Pointwise(MASK_AS_FLOAT, value, mask=False) if value.mask else value


def expanded(value: Value, shape: Shape) -> Value:
    """``value`` broadcast with ``shape``."""
    shape = tuple(np.broadcast_shapes(value.shape, shape))
    return value if shape == value.shape else View(value, shape, lambda i: broadcast_index(value.shape, i))


def as_mask(a: Value) -> Value:
    """Numbers as a mask that is true where they are not 0; a mask unchanged."""
    return a if a.mask else Pointwise("({0} != 0)", a, mask=True)
