"""Checks of arguments: one function and one wording for each mistake.

Each check returns the value, or raises a ``ValueError`` with the name of the argument, the expected value and the value
that was given. A bool, NaN and infinity do not count as numbers. Importing this module does not import torch.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

LARGEST = 2**53
"""All whole numbers below it are exact in float64."""

LONGEST = 60  # characters of a value in a message


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite real number of at most 64 bits; strings, tensors and bools are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return -(2**63) < int(value) < 2**63 if isinstance(value, Integral) else math.isfinite(value)


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number above 0."""
    return is_number(value) and value > 0


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether the value is a whole number; bools are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    if not is_integer(value) or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" of {low} or more" if high is None else f" from {low} to {high}"
        raise ValueError(f"expected {name} to be a whole number{bounds}, got {shown(value)}")
    if abs(value) >= LARGEST:
        raise ValueError(f"expected {name} below 2**53, got {value}")
    return int(value)


def check_number(name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """A number in an ``interval`` such as "(0, 1]" or "[0, inf)"; a round bracket excludes the end."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    real = isinstance(value, Real) and not isinstance(value, bool) and (is_number(value) or value == high)
    if real and low <= value <= high and (value > low or interval[0] == "[") and (value < high or interval[-1] == "]"):
        return float(value)
    if math.isfinite(high) or interval[-1] == "]":
        wanted = f"a number in {interval}"
    elif not math.isfinite(low):
        wanted = "a finite number"
    else:
        wanted = f"a finite number of {low:g} or more" if interval[0] == "[" else f"a finite number above {low:g}"
    raise ValueError(f"expected {name} to be {wanted}, got {shown(value)}")


def check_fields(settings: Any, *, counts: tuple[str, ...] = (), positive: tuple[str, ...] = ()) -> None:
    """Check fields of a dataclass: ``counts`` are whole numbers of 1 or more, ``positive`` are numbers above 0.

    None is allowed if it is the default of the field.
    """
    optional = {field.name for field in fields(settings) if field.default is None}
    for name in (*counts, *positive):
        value = getattr(settings, name)
        if value is None and name in optional:
            continue
        if name in counts:
            check_integer(name, value, 1)
        else:
            check_number(name, value, "(0, inf)")


def check_seed(seed: Any) -> int:
    """A whole number from 0 to 2**63 - 1, which torch and NumPy both accept as a seed."""
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"expected seed to be a whole number of 0 or more, got {shown(seed)}")
    if seed >= 2**63:
        raise ValueError(f"expected seed below 2**63, got {seed}")
    return int(seed)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of the names ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, choices))}, got {shown(value)}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"expected {name} to be True or False, got {shown(value)}")
    return bool(value)


def check_pair(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers, the first below the second."""
    if isinstance(value, np.ndarray):
        value = np.atleast_1d(value)
    pair = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(is_number(end) for end in pair) or not pair[0] < pair[1]:
        raise ValueError(f"expected {name} to be two finite numbers (low, high) with low < high, got {shown(value)}")
    return float(pair[0]), float(pair[1])


def check_names(name: str, value: Any) -> list[str]:
    """A list or tuple of strings; a single string counts as a list of one."""
    given = [value] if isinstance(value, str) else value
    if isinstance(given, np.ndarray):
        given = np.atleast_1d(given).ravel().tolist()
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"expected {name} to be a list of strings, got {shown(value)}")
    return [str(one) for one in given]


def check_sizes(name: str, values: Any) -> None:
    """A tuple or list of whole numbers of 1 or more."""
    if not isinstance(values, tuple | list):
        raise ValueError(f"expected {name} to be a tuple of whole numbers, got {shown(values)}")
    for value in values:
        check_integer(f"every number of {name}", value, 1)


def check_callable(name: str, value: Any, of: str) -> None:
    """A callable; ``of`` describes its arguments in the message, such as "the draws"."""
    if not callable(value):
        raise ValueError(f"expected {name} to be a function of {of}, got {shown(value)}")


def to_array(values: Any, name: str = "values") -> np.ndarray:
    """A tensor, array or list as an array; floats keep their precision.

    Raises ``ValueError`` for a masked array, and for values that are not one array, such as lists of unequal lengths.
    """
    refuse_mask(name, values)
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected {name} as an array, got {type(values).__name__}: {error}") from None


def to_numbers(name: str, values: Any) -> np.ndarray:
    """Real numbers or booleans as an array of float64."""
    array = to_array(values, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers as {name}, got {array.dtype}")
    return array.astype(float, copy=False)


def check_finite(name: str, values: Any) -> None:
    """An array or tensor without NaN and infinity; the message gives their number."""
    finite = values.isfinite() if hasattr(values, "detach") else np.isfinite(values)
    count = math.prod(finite.shape)
    bad = count - int(finite.sum())
    if bad:
        raise ValueError(f"expected finite {name}, got {bad} of {count} that are nan or infinite")


def refuse_mask(name: str, values: Any) -> None:
    """Refuse a masked array, whose masked values would otherwise be used."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"expected {name} without a mask, got a masked array: remove the masked values")


def check_tensor(name: str, value: Any) -> None:
    """A dense tensor."""
    if not _is_dense(value):
        raise ValueError(f"expected {name} to be a tensor, got {shown(value)}")


def check_floating(name: str, value: Any) -> None:
    """A dense tensor of float16, bfloat16, float32 or float64."""
    if not _is_dense(value) or str(value.dtype).removeprefix("torch.") not in FLOATS:
        raise ValueError(f"expected {name} to be a floating tensor, got {shown(value)}")


def check_real(name: str, value: Any) -> None:
    """A dense tensor of integers or booleans, or as in `check_floating`."""
    if not _is_dense(value) or value.is_complex() or value.is_floating_point():
        check_floating(name, value)


FLOATS = ("float16", "bfloat16", "float32", "float64")


def _is_dense(value: Any) -> bool:
    return hasattr(value, "detach") and str(value.layout) == "torch.strided"


def shown_shape(value: Any) -> str:
    """The shape of a tensor or array, the type of any other value, as text for a message about shapes."""
    return str(tuple(value.shape)) if hasattr(value, "shape") else type(value).__name__


def shown(value: Any) -> str:
    """A value as text for a message: type and shape of a tensor or array, the type alone if the text is long."""
    if hasattr(value, "detach"):
        layout = "" if _is_dense(value) else f", {value.layout}"
        return f"{value.dtype} of shape {tuple(value.shape)}{layout}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    text = repr(value)
    return text if len(text) <= LONGEST else type(value).__name__
