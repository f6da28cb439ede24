"""Calls of a module with the weights of a model, with errors that name what the module or its inputs lack."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from posterity.models import chunks

LOST = 1e-3  # largest rounding error by a narrower dtype, relative to the spread of a column
CONSTANT = 1e-12  # spread of a column, relative to its size, that float64 rounding errors explain
INPUT_ERRORS = re.compile(
    "cannot be multiplied|same dtype|scalar type|channels|size mismatch|must match the size|normalized_shape|"
    "Input type|to have the same|input.size|[Ee]xpected input|[Ee]xpected [0-9]D|at least 1D|must be Tensor"
)


def trainable(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and values of the parameters that require a gradient.

    Raises:
        ValueError: an object that is not a module, a module without such parameters, or running averages in training
            mode.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"expected module to be a torch.nn.Module, got {type(module).__name__}")
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.training and layer.track_running_stats:
            raise ValueError(
                f"expected running averages in evaluation mode, got {type(layer).__name__} {name!r} in training mode: "
                "call module.eval() first"
            )
    # Detached, since a recording of the model must not contain a tensor that requires a gradient.
    parameters = [(name, value.detach()) for name, value in module.named_parameters() if value.requires_grad]
    if not parameters:
        raise ValueError(f"expected a module with trainable parameters, got {type(module).__name__} with none")
    return parameters


def with_weights(module: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Any]:
    """The module as a function of its inputs; inputs of another floating dtype are cast to the dtype of the weights.

    The function raises ``ValueError`` for inputs that the module cannot take, or whose values the dtype of the weights
    cannot distinguish.
    """
    dtypes = {value.dtype for value in weights.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    first = _first_linear(module)

    def call(*args: Any, **kwargs: Any) -> Any:
        if first is not None and args and isinstance(args[0], Tensor):
            _check_width(args[0], first.in_features)
        if dtype is not None:
            args = tuple(_cast(f"input {place}", value, dtype) for place, value in enumerate(args))
            kwargs = {name: _cast(name, value, dtype) for name, value in kwargs.items()}
        with described_inputs(module, *args, *kwargs.values()):
            return functional_call(module, weights, args, kwargs)

    return call


@contextmanager
def described_inputs(module: nn.Module, *inputs: Any) -> Iterator[None]:
    """Turn torch's errors about the shape, dtype or type of inputs into a ``ValueError`` that describes the inputs."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if not INPUT_ERRORS.search(str(error)):
            raise
        given = ", ".join(_described(value) for value in inputs)
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected inputs that {type(module).__name__} takes, got {given}: {reason}") from error


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """The floating dtype of a module's parameters; None if they have none, or several."""
    dtypes = {value.dtype for value in module.parameters() if value.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


def _first_linear(module: nn.Module) -> nn.Linear | None:
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    return module if isinstance(module, nn.Linear) else None


def _check_width(x: Tensor, width: int) -> None:
    if not x.ndim or x.shape[-1] != width:
        raise ValueError(f"expected x of shape (..., {width}), got {tuple(x.shape)}")


def _cast(name: str, value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
        return value
    narrow = value.to(dtype)
    if torch.finfo(dtype).bits < torch.finfo(value.dtype).bits and value.numel() and chunks.untransformed(value):
        wide = value.detach()
        columns, rounded = (v.reshape(-1, wide.shape[-1] if wide.ndim == 2 else 1) for v in (wide, narrow.detach()))
        spread = columns.amax(0) - columns.amin(0)
        lost = (rounded.to(columns.dtype) - columns).abs().amax(0)
        if bool(((lost > LOST * spread) & (spread > CONSTANT * columns.abs().amax(0))).any()):
            raise ValueError(
                f"expected {name} with values that {dtype} can distinguish, got {value.dtype} values from "
                f"{float(wide.min()):.9g} to {float(wide.max()):.9g}: standardise them, or use module.double()"
            )
    return narrow


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
