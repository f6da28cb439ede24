"""Checks of the arguments of models: an invalid argument is a ``ValueError`` at once, not another error later.

A bool, nan and infinity are not accepted as numbers.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

from torch import Tensor

from posterity.data._check import check_flag, is_number
from posterity.data._random import check_count

__all__ = ["check_choice", "check_flag", "check_sizes", "check_tensor", "is_number", "is_positive"]


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number above 0."""
    return is_number(value) and value > 0


def check_choice(name: str, value: Any, options: Sequence[str]) -> None:
    """``ValueError`` unless the value is one of these names."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"expected {name} from {list(options)}, got {value!r}")


def check_sizes(name: str, values: Any) -> None:
    """``ValueError`` unless the values are a tuple or list of whole numbers of 1 or more."""
    if not isinstance(values, tuple | list):
        raise ValueError(f"expected {name} to be a tuple of whole numbers, got {values!r}")
    for value in values:
        check_count(f"every number of {name}", value)


def check_tensor(name: str, value: Any) -> None:
    """``ValueError`` unless the value is a tensor of real numbers in floating point."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"expected {name} to be a tensor of floating point, got {found}")
