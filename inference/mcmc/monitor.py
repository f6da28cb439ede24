"""Convergence of functions while a sampler runs: for the progress bar, and for stopping at a target ESS."""

import math
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.inference.diagnostics.sampling.convergence import function_convergence
from posterity.inference.engine.density import Density
from posterity.inference.program import Program, over_draws

ROWS = 16
PIECE = 256  # draws of each chain at a time: after a resumed run's there may be any number
# Looking takes at most about a tenth of the time.
SHARE = 10.0


class Monitor:
    """Means of the likelihood at 16 rows, where it has finite ones, and the log density.

    A likelihood without a mean, or one that cannot be batched over draws, leaves the log density: to watch a run must
    never end it. Of one chain the two halves are compared.
    """

    def __init__(self, density: Density, program: Program, settings: Any) -> None:
        self.density, self.program, self.chains = density, program, settings.chains
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.values: list[np.ndarray] = []
        self.watched = settings.progress or settings.target_ess is not None
        self.next_look = 0.0
        self._rhat, self._ess = math.inf, 0.0

    def add(self, q: Tensor, value: Tensor) -> None:
        if self.watched:
            self.pending.append((q, value))

    def rhat(self) -> float:
        """The largest R-hat as of the last look; infinity before the first."""
        self._look()
        return self._rhat

    def ess(self) -> float:
        """The smallest bulk ESS as of the last look."""
        self._look()
        return self._ess

    def last(self) -> float:
        """The largest R-hat of all draws, whenever the last look was; infinity where nothing is watched."""
        self.next_look = 0.0
        return self.rhat()

    def _look(self) -> None:
        if not self.pending or time.perf_counter() < self.next_look:
            return
        if len(self.values) + len(self.pending) < 8:
            return
        begun, first = time.perf_counter(), not self.values
        self.values += [self._functions(self.pending[i : i + PIECE]) for i in range(0, len(self.pending), PIECE)]
        self.pending = []
        draws = np.concatenate(self.values, 1)
        if self.chains == 1:
            half = draws.shape[1] // 2
            draws = draws[0, -2 * half :].reshape(2, half, -1)
        draws = draws[..., np.isfinite(draws).all((0, 1))]
        draws = draws[..., np.ptp(draws, axis=(0, 1)) > 0]
        if draws.shape[1] >= 4 and draws.shape[2]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = function_convergence(draws)
            self._rhat, self._ess = float(found.rhat.max()), float(found.ess_bulk.min())
        # What the first look takes says nothing: most of it is done once.
        now = time.perf_counter()
        self.next_look = now if first else now + SHARE * (now - begun)

    def _functions(self, draws: list[tuple[Tensor, Tensor]]) -> np.ndarray:
        positions = torch.stack([q for q, _ in draws], 1)  # (chain, draw, dim)
        density = torch.stack([v for _, v in draws], 1)[..., None].double()
        means = density.new_full((*positions.shape[:2], ROWS), torch.nan)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self._means(positions)
        except Exception:  # noqa: BLE001 - a likelihood may fail in any way, and the log density is there
            found = None
        if found is not None:
            rows = torch.linspace(0, found.shape[-1] - 1, ROWS).round().long()
            means = found[..., rows.to(found.device)]
        return torch.cat([means, density], -1).cpu().numpy()

    def _means(self, positions: Tensor) -> Tensor | None:
        """E[y|x, w] of every draw, (chain, draw, N * events)."""
        draws = {name: v.flatten(0, 1) for name, v in self.density.constrain(positions).items()}
        likelihood = over_draws(
            self.density.model, self.density.args, draws, self.program.site, others=self.program.observed
        )[0]
        functions = likelihood.mean.reshape(*positions.shape[:2], -1).double()
        return functions if functions.shape[-1] else None
