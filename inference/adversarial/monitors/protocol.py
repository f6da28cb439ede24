"""`Monitor`: the protocol of monitors; and the check of held-out samples that monitors share."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from posterity.inference.adversarial.training_run import TrainingRun


class Monitor(Protocol):
    """Reads a run at intervals, with its own random numbers, so that training is the same with and without it."""

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        """Named numbers, which become curves in the ``history`` of the run.

        ``run.history`` has the earlier readings, ``run.current_reading`` the values of the monitors before this one.
        """
        ...


def check_held_out(held_out: Any, minimum: int, description: str) -> None:
    """Raises ``ValueError`` unless ``held_out`` is a finite, floating tensor of at least ``minimum`` samples."""
    if not isinstance(held_out, Tensor) or held_out.ndim < 2 or len(held_out) < minimum or not held_out[0].numel():
        got = f"shape {tuple(held_out.shape)}" if isinstance(held_out, Tensor) else type(held_out).__name__
        raise ValueError(f"expected {description}, got {got}")
    if not held_out.is_floating_point() or not bool(torch.isfinite(held_out).all()):
        raise ValueError(
            f"expected held-out samples that are finite and floating, got NaN, infinity or {held_out.dtype}"
        )
