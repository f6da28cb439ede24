"""Arguments of a model: their conversion to tensors, checks, and arguments that are None."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.data.frames import is_frame
from posterity.inference.program.by_position import POSITIONAL, parameters_of
from posterity.inference.program.nested import leaves, map_leaves, tensors_in
from posterity.inference.program.tables import Columns, expand_observations, order_as_fitted, read_tables

MISSING = "replace missing values by any finite number, and mask them in the model (fn.mask(is_there))"


def read_arguments(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with data as tensors: NumPy arrays, frames, columns of frames and lists of numbers.

    An array is copied and keeps its dtype. A frame of numbers becomes a tensor (N, D) (see
    `posterity.data.frames.read_numbers`), and an `Observations` that is the only argument becomes x and y. A list
    becomes a tensor if it has one number (or list of numbers) for each row of the other data, or if there is no other
    data. The values of a dictionary are read in the same way. Other values are unchanged.

    Raises ``ValueError`` for an array that does not hold numbers or has a mask, a frame in a dictionary, and as
    `check_arguments` does.
    """
    read = tuple(map_leaves(_tensor, value, f"argument {n}") for n, value in enumerate(read_tables(args)))
    data = tensors_in(read)
    lengths = {len(value) for value in data if value.ndim}
    given = {id(value) for value in tensors_in(args)}

    def convert(label: str, value: Any) -> Any:
        if isinstance(value, list) and (not data or len(value) in lengths):
            value = _from_list(value, label)
        return value.to(data[0].device) if data and isinstance(value, Tensor) and id(value) not in given else value

    read = tuple(map_leaves(convert, value, f"argument {n}") for n, value in enumerate(read))
    check_arguments(read)
    return read


def check_arguments(args: tuple[Any, ...]) -> None:
    """Raises ``ValueError`` unless all tensors among the arguments are real, finite and not empty."""
    for position, argument in enumerate(args):
        map_leaves(_check, argument, f"argument {position}")


def _check(label: str, value: Any) -> None:
    if isinstance(value, list) and not value:
        raise ValueError(f"expected data, got an empty list as {label}")
    if not isinstance(value, Tensor):
        return
    if value.numel() == 0:
        raise ValueError(f"expected data, got an empty {label} of shape {tuple(value.shape)}")
    if value.is_complex():
        raise ValueError(f"expected real numbers, got {label} of {value.dtype}")
    bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
    if bad:
        raise ValueError(f"expected finite values, got {bad} that are not in {label}: {MISSING}")


def _tensor(name: str, value: Any) -> Any:
    """A table, an array, or an object that NumPy reads as an array, as a tensor; other values unchanged."""
    if isinstance(value, Columns):
        return value.values
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return value
    if is_frame(value):
        raise ValueError(
            f"expected columns or arrays in a dictionary, got a frame as {name}: dict(frame) has its columns"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"expected {name} without a mask, got a masked array: {MISSING}")
    try:
        array = np.asarray(value)
    except TypeError:  # such as a Dataset of xarray, which has many arrays
        raise ValueError(f"expected {name} as an array, got {type(value).__name__}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected {name} of real numbers, got an array of {array.dtype}")
    dtype = np.dtype(float) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype, order="C"))


def _from_list(value: Any, name: str) -> Any:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"expected {name} with rows of one length, got a list of different ones") from None
    if array.dtype.kind not in "biuf":
        return value
    return torch.from_numpy(array).to(torch.get_default_dtype() if array.dtype.kind == "f" else None)


def bind_arguments(
    model: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], list[str]]:
    """All arguments by position, and the names of those that were filled with the model's defaults.

    The arguments ``named``, as in ``log_likelihood(x, y=y)``, are put in their positions; an argument between them
    that was not given gets its default. Raises ``TypeError``, as Python does, for a name that the model does not have
    or that was given twice, and ``ValueError`` if an argument without a default is missing between others.
    """
    if not named:
        return args, []
    defaults = _defaults(model)
    unknown = sorted(named.keys() - defaults.keys())
    twice = sorted(named.keys() & set(list(defaults)[: len(args)]))
    if unknown or twice:
        reason = "has no argument of that name" if unknown else "got them by position too"
        raise TypeError(f"unexpected arguments {unknown or twice} by name: the model {reason}")
    last = max(place for place, name in enumerate(defaults) if name in named)
    filled = [name for name in list(defaults)[len(args) : last] if name not in named]
    missing = [name for name in filled if defaults[name] is inspect.Parameter.empty]
    if missing:
        raise ValueError(f"expected the model's arguments {missing} beside {sorted(named)}, got none")
    return (*args, *({**defaults, **named}[name] for name in list(defaults)[len(args) : last + 1])), filled


def read_as_fitted(
    model: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any], attrs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], list[str]]:
    """`bind_arguments` as tensors, with the columns of tables in the order of the fit; ``attrs`` of the posterior."""
    bound, filled = bind_arguments(model, expand_observations(args), named)
    return read_arguments(order_as_fitted(bound, attrs)), filled


def none_arguments(model: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, bool]:
    """The names of the model's arguments that are None, in order, each with whether None was passed explicitly."""
    defaults = _defaults(model)
    given = dict(zip(defaults, args, strict=False))
    return {name: name in given for name, default in defaults.items() if given.get(name, default) is None}


def describe_none_arguments(model: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """The end of an error message: which arguments are None."""
    names = list(none_arguments(model, args))
    return f" (not given: {', '.join(map(repr, names))})" if names else ""


def replace_argument(model: Callable[..., Any], args: tuple[Any, ...], name: str, value: Any) -> tuple[Any, ...]:
    """The arguments with ``value`` for the argument ``name``, and the model's defaults before it."""
    defaults = _defaults(model)
    place = list(defaults).index(name)
    filled = [*args, *list(defaults.values())[len(args) : place + 1]]
    filled[place] = value
    return tuple(filled)


def _defaults(model: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a model in order (see `by_position`), with defaults; empty if the model has no signature."""
    kinds = (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    return {one.name: one.default for one in parameters_of(model) if one.kind in kinds}


def describe_arguments(args: tuple[Any, ...]) -> str:
    """Shapes and types of the arguments, for messages."""
    return ", ".join(
        f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" if isinstance(value, Tensor) else
        "None" if value is None else type(value).__name__
        for argument in args for _, value in leaves(argument)
    )  # fmt: skip
