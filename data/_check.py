"""Checks of the arguments of simulators and loaders; the messages name the argument."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from posterity.data._precision import FLOATS


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite real number that torch can hold: no text, tensor, bool or integer above 64 bits."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return -(2**63) < int(value) < 2**63 if isinstance(value, Integral) else math.isfinite(value)


def check_floats(name: str, value: Any) -> None:
    """Raise ValueError unless the value is a dense tensor of a floating dtype in which torch computes."""
    if not isinstance(value, Tensor) or value.dtype not in FLOATS or value.layout != torch.strided:
        raise ValueError(f"expected {name} to be a floating tensor, got {described(value)}")


def check_real(name: str, value: Any) -> None:
    """Raise ValueError unless the value is a dense tensor of integers, of booleans, or as in `check_floats`."""
    if (
        not isinstance(value, Tensor)
        or value.is_complex()
        or value.is_floating_point()
        or value.layout != torch.strided
    ):
        check_floats(name, value)


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError unless the value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"expected {name} to be True or False, got {value!r}")


def check_pair(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers, (low, high) with low < high; ValueError for anything else."""
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(is_number(end) for end in pair) or not pair[0] < pair[1]:
        raise ValueError(f"expected a finite {name} (low, high) with low < high, got {value!r}")
    return pair


def described(value: Any) -> str:
    """The dtype and shape, or the type, of an unexpected value, for messages."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else f", {value.layout}"
    return f"{value.dtype} of shape {tuple(value.shape)}{layout}"
