"""An engine with different data for each chain: many posteriors of one model at once."""

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
    pad_chains,
    quiet,
    record,
    replay,
)

Gradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def prepare_chain_data(density: Density, data: Tensor, positions: Tensor, *, recorded: bool) -> Engine:
    """The engine of ``density`` with one data set (chain, ...) for each chain as the model's last argument.

    ``positions`` (chain, dim) are the starts. With ``recorded`` the tier is "replay", unless the model cannot be
    recorded or its recording is wrong for other data; then it is "eager".
    """
    exact = _gradient(density)
    replayed = _replayed(exact, data, positions) if recorded else None
    function, tier = (exact, "eager") if replayed is None else (pad_chains(replayed, len(positions)), "replay")
    return Engine(density, len(positions), tier, function, data)


def _replayed(exact: Gradient, data: Tensor, positions: Tensor) -> Gradient | None:
    """A recording of ``exact``; None if the model cannot be recorded, or if the recording is wrong for other data."""
    try:
        with quiet():
            replayed = replay(record(exact, positions, data), positions, data)
        other = data.roll(1, 0)
        with pyro.validation_enabled(False), torch.no_grad():
            recorded, expected = replayed(positions, other), exact(positions, other)
    except RECORDING_ERRORS:
        return None
    return None if difference(recorded, expected, RELATIVE_TOLERANCE.get(positions.dtype, 1e-6)) else replayed


def _gradient(density: Density) -> Gradient:
    def log_joint(q: Tensor, y: Tensor) -> Tensor:
        chain_density = copy.copy(density)
        chain_density.args = (*density.args[:-1], y)
        return chain_density(q)

    batched = torch.func.vmap(torch.func.grad_and_value(log_joint), randomness="error")

    def gradient(q: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = batched(q, data)
        return value, grad

    return gradient
