"""Some rows of the data: taking them, and what their terms of the log joint count for."""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from posterity.inference.program import Model, Program, trace


class ScaleObservations(Messenger):
    """Multiplies the log density of every site in the plates of the rows by N / batch."""

    def __init__(self, program: Program, row_plates: tuple[str, ...], batch: int, rows: int) -> None:
        super().__init__()
        self.program, self.row_plates, self.factor = program, row_plates, rows / batch

    def _pyro_sample(self, msg: Any) -> None:
        frames = {frame.name: frame for frame in msg["cond_indep_stack"]}
        data_plates = [name for name in self.program.plates if name in frames]
        if any(frames[name].full_size not in (None, frames[name].size) for name in data_plates):
            raise ValueError("expected batches from the model's plate or from batch_size, got both")
        if any(name in frames for name in self.row_plates) or msg["name"] == self.program.site:
            msg["scale"] = msg["scale"] * self.factor


def row_plates(model: Model, args: tuple[Any, ...], program: Program) -> tuple[str, ...]:
    """The plates of the observed site that are as long as the data; another plate does not shrink with a batch."""
    with torch.no_grad():
        site = trace(model, args, seed=0)[program.site]
    return tuple(f.name for f in site["cond_indep_stack"] if f.vectorized and f.size == count_rows(args))


def count_rows(args: tuple[Any, ...]) -> int:
    """The rows of the last tensor, which is y where it is given; a number is one row."""
    last = next(value for value in reversed(args) if isinstance(value, Tensor))
    return len(last) if last.ndim else 1


def take(args: tuple[Any, ...], rows: Tensor) -> tuple[Any, ...]:
    return tuple(value[rows.to(value.device)] if isinstance(value, Tensor) and value.ndim else value for value in args)
