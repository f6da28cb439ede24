"""Gradients of all members of an ensemble on data that differ between steps and members: batches of rows, noise."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import PointDensity
from posterity.inference.engine.recording import RECORDING_ERRORS, quiet, record, replay
from posterity.inference.program.minibatch import ScaleObservations, row_terms
from posterity.inference.program.nested import tensors_in, with_tensors
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model
from posterity.inference.training.noise import DataNoise


class BatchGradient:
    """The function from positions (member, dim) to log joints (member,) and gradients (member, dim) on new data.

    ``tier`` is "replay", or "eager" if ``engine`` is or if the model cannot be recorded.

    Args:
        model: a Pyro model.
        program: its sites.
        args: its arguments; those with ``rows`` rows are drawn anew.
        rows: number of rows.
        size: rows of a batch, drawn with replacement for each member; ``rows`` for all rows, in order.
        noise: noise on the batches; None for none.
        start: positions (member, dim).
        engine: one of the tiers of the engine, or "auto".
        generator: source of all random numbers.
    """

    def __init__(
        self,
        model: Model,
        program: Program,
        args: tuple[Any, ...],
        rows: int,
        size: int,
        noise: DataNoise | None,
        start: Tensor,
        engine: str,
        generator: torch.Generator,
    ) -> None:
        self.program, self.args, self.rows, self.size = program, args, rows, size
        self.noise, self.members, self.generator = noise, len(start), generator
        self.density = PointDensity(model, args)
        self.data = tensors_in(args)
        self.varying = [a.ndim > 0 and len(a) == rows for a in self.data]
        self.terms = None if size == rows else row_terms(model, args, program)
        self.call: Callable[..., Any] = torch.func.vmap(torch.func.grad_and_value(self._log_joint), randomness="error")
        self.tier = "eager"
        if engine != "eager":
            self._record(start)

    def _record(self, start: Tensor) -> None:
        try:
            with quiet():
                example = (start, *self._draw())
                self.call = replay(record(self.call, *example), *example)
            self.tier = "replay"
        except RECORDING_ERRORS as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"the model runs on the tier 'eager': {reason}", RuntimeWarning, stacklevel=2)

    def _log_joint(self, position: Tensor, *batch: Tensor) -> Tensor:
        parts = iter(batch)
        data = [next(parts) if v else a for a, v in zip(self.data, self.varying, strict=True)]
        self.density.args = with_tensors(self.args, data)
        with self._scaled():
            return self.density(position)

    def _scaled(self) -> AbstractContextManager[Any]:
        if self.terms is None:
            return nullcontext()
        plates, sites = self.terms
        return ScaleObservations(self.program, plates, self.size, self.rows, sites)

    def _draw(self) -> list[Tensor]:
        """The arguments with rows, (member, size, ...), as in the next step."""
        lead, pairs = (self.members, self.size), list(zip(self.data, self.varying, strict=True))
        if self.size == self.rows:
            values = [a.expand(self.members, *a.shape) if v else a for a, v in pairs]
        else:
            index = torch.randint(self.rows, lead, generator=self.generator)
            values = [a[index.to(a.device)] if v else a for a, v in pairs]
        if self.noise is not None:
            values = self.noise(values, lead, self.generator)
        return [value for value, v in zip(values, self.varying, strict=True) if v]

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        with pyro.validation_enabled(False), torch.no_grad():
            grad, value = self.call(q, *self._draw())
        return value, grad
