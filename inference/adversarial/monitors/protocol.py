"""The protocol of monitors (an object with one method), and the check of held-out samples that monitors share."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from posterity.inference.adversarial.training_run import Game


class Monitor(Protocol):
    """Looks at a game now and then, with its own random numbers: training is the same with it as without."""

    def read(self, game: Game) -> Mapping[str, float]:
        """Named numbers, which become curves in the game's ``history``; those of previous readings are there,
        and those of monitors before it in its ``reading``."""
        ...


def check_held_out(held_out: Any, least: int, wanted: str) -> None:
    """Raises ``ValueError`` unless the samples are a finite, floating tensor (N, ...) with N at least ``least``."""
    if not isinstance(held_out, Tensor) or held_out.ndim < 2 or len(held_out) < least or not held_out[0].numel():
        got = f"shape {tuple(held_out.shape)}" if isinstance(held_out, Tensor) else type(held_out).__name__
        raise ValueError(f"expected {wanted}, got {got}")
    if not held_out.is_floating_point() or not bool(torch.isfinite(held_out).all()):
        raise ValueError(
            f"expected held-out samples that are finite and floating, got nan, infinity or {held_out.dtype}"
        )
