"""Calling a module with weights of the model's own: what it needs of the module and of its inputs, checked by name."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from posterity.models import blocks

LOST = 1e-3  # of the spread of a column: what rounding to a narrower dtype may change
CONSTANT = 1e-12  # spread of a column relative to its size: rounding errors of float64
MISFITS = re.compile(
    "cannot be multiplied|same dtype|scalar type|channels|size mismatch|must match the size|normalized_shape|"
    "Input type|to have the same|input.size|[Ee]xpected input|[Ee]xpected [0-9]D|at least 1D|must be Tensor"
)


def trainable(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and values of the parameters that require a gradient.

    Raises ``ValueError`` for an object that is not a module, a module without such parameters, or running averages in
    training mode.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"expected a torch.nn.Module, got {type(module).__name__}")
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.training and layer.track_running_stats:
            raise ValueError(
                f"expected running averages that stay as they are, got {type(layer).__name__} {name!r} in training "
                "mode: call module.eval() first"
            )
    # Detached at once: what records the model may not meet a tensor that wants a gradient.
    parameters = [(name, value.detach()) for name, value in module.named_parameters() if value.requires_grad]
    if not parameters:
        raise ValueError(f"expected a module with trainable parameters, got {type(module).__name__} with none")
    return parameters


def with_weights(module: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Any]:
    """The module as a function of its inputs alone; inputs of another floating dtype are cast to the weights'.

    The function raises ``ValueError`` for inputs that the module cannot take, or that the dtype cannot tell apart.
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
        with named_misfits(module, *args, *kwargs.values()):
            return functional_call(module, weights, args, kwargs)

    return call


@contextmanager
def named_misfits(module: nn.Module, *inputs: Any) -> Iterator[None]:
    """Errors of torch about inputs of another shape, dtype or kind, as a ``ValueError`` that describes the inputs."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if not MISFITS.search(str(error)):
            raise
        given = ", ".join(_described(value) for value in inputs)
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected inputs that {type(module).__name__} takes, got {given}: {reason}") from error


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """The floating dtype of a module's parameters; None where they have none, or several."""
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
    if torch.finfo(dtype).bits < torch.finfo(value.dtype).bits and value.numel() and blocks.plain(value):
        wide = value.detach()
        columns, rounded = (v.reshape(-1, wide.shape[-1] if wide.ndim == 2 else 1) for v in (wide, narrow.detach()))
        spread = columns.amax(0) - columns.amin(0)
        lost = (rounded.to(columns.dtype) - columns).abs().amax(0)
        if bool(((lost > LOST * spread) & (spread > CONSTANT * columns.abs().amax(0))).any()):
            raise ValueError(
                f"expected {name} in units that {dtype} tells apart, got {value.dtype} values from "
                f"{float(wide.min()):.9g} to {float(wide.max()):.9g}: standardise them, or use module.double()"
            )
    return narrow


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
