"""An engine whose chains each have their own data, for many posteriors of one model at once."""

import copy
from collections.abc import Callable

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import (
    RECORDING_ERRORS,
    RELATIVE_TOLERANCE,
    difference,
    filled,
    quiet,
    record,
    replay,
)

Gradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def prepare_chain_data(density: Density, data: Tensor, positions: Tensor, *, recorded: bool) -> Engine:
    """The engine of ``density`` with the data (chain, ...) of each chain in the place of the model's last argument.

    ``positions`` (chain, dim) are the starts. With ``recorded`` the tier is "replay", or "eager" where the model cannot
    be recorded, or the recording differs from the model with other data.
    """
    exact = _gradient(density)
    replayed = _replayed(exact, data, positions) if recorded else None
    function, tier = (exact, "eager") if replayed is None else (filled(replayed, len(positions)), "replay")
    return Engine(density, len(positions), tier, function, data)


def _replayed(exact: Gradient, data: Tensor, positions: Tensor) -> Gradient | None:
    """None where the model cannot be recorded, or is another function once it is."""
    try:
        with quiet():
            replayed = replay(record(exact, positions, data), positions, data)
        other = data.roll(1, 0)  # data that the recording has not seen
        with pyro.validation_enabled(False), torch.no_grad():
            found, expected = replayed(positions, other), exact(positions, other)
    except RECORDING_ERRORS:
        return None
    return None if difference(found, expected, RELATIVE_TOLERANCE.get(positions.dtype, 1e-6)) else replayed


def _gradient(density: Density) -> Gradient:
    def log_joint(q: Tensor, y: Tensor) -> Tensor:
        own = copy.copy(density)
        own.args = (*density.args[:-1], y)
        return own(q)

    batched = torch.func.vmap(torch.func.grad_and_value(log_joint), randomness="error")

    def gradient(q: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = batched(q, data)
        return value, grad

    return gradient
