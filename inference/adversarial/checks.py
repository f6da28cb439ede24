"""Checks of the data and networks that adversarial training is given."""

from typing import Any

import torch
from torch import Tensor, nn

from posterity.validation import check_floating, shown


def check_network(name: str, net: Any) -> None:
    """Raises ``ValueError`` unless ``net`` is a ``torch.nn.Module``."""
    if not isinstance(net, nn.Module):
        raise ValueError(f"expected {name} to be a torch.nn.Module, got {shown(net)}")


def check_data(data: Any, batch_size: int) -> None:
    """Raises ``ValueError`` unless ``data`` (N, ...) are finite, floating, and enough for one batch."""
    if isinstance(data, Tensor) and data.dtype == torch.uint8:
        raise ValueError("expected data to be a floating tensor, got torch.uint8: scale images to [-1, 1] first")
    check_floating("data", data)
    if data.ndim < 2 or not data[:1].numel() or len(data) < batch_size:
        raise ValueError(
            f"expected data of shape (N, ...), N at least the batch_size of {batch_size}, got {tuple(data.shape)}"
        )
    # The extremes are NaN or infinite if any value is, and need no temporary copy as large as the data.
    if not all(bool(torch.isfinite(extreme)) for extreme in data.aminmax()):
        raise ValueError("expected finite data, got values that are NaN or infinite")


def check_condition(condition: Any, rows: int) -> None:
    """Raises ``ValueError`` unless ``condition`` is None or a tensor (rows, C)."""
    if condition is not None and (not isinstance(condition, Tensor) or condition.ndim != 2 or len(condition) != rows):
        got = tuple(condition.shape) if isinstance(condition, Tensor) else shown(condition)
        raise ValueError(f"expected condition of shape ({rows}, C), got {got}")


def call_network(name: str, net: nn.Module, values: Tensor, condition: Tensor | None = None) -> Tensor:
    """The output of a network; a ``ValueError`` with its ``name`` and the shapes of the input if the call fails."""
    inputs = (values,) if condition is None else (values, condition)
    try:
        output: Tensor = net(*inputs)
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = " and ".join(f"{tuple(value.shape)} of {value.dtype} on {value.device}" for value in inputs)
        raise ValueError(f"expected a {name} that can be called with {shapes}, got: {error}") from error
    return output


def check_sample_shape(samples: Tensor, count: int, data: Tensor) -> None:
    """Raises ``ValueError`` unless ``samples`` are ``count`` samples of the shape of those in ``data`` (N, ...)."""
    if samples.shape != (count, *data.shape[1:]):
        wanted = ", ".join(map(str, data.shape[1:]))
        raise ValueError(f"expected a generator of samples of shape (N, {wanted}), got {tuple(samples.shape)}")


def check_logit_shape(logits: Tensor, count: int | None = None) -> None:
    """Raises ``ValueError`` unless ``logits`` have one number for each sample, shape (B,) or (B, 1).

    Without a ``count`` of samples, one number for several samples, and logits of patches (B, ..., P), fit as well.
    """
    fits = logits.ndim < 2 or (logits.ndim == 2 and logits.shape[1] == 1) or (logits.ndim > 2 and count is None)
    if not fits or (count is not None and logits.shape[:1] != (count,)):
        raise ValueError(f"expected a discriminator with one logit for each sample, got shape {tuple(logits.shape)}")
