"""Convergence of functions while a sampler runs: for the progress bar, and for stopping at a target ESS."""

import math
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.inference.diagnostics.convergence import function_convergence
from posterity.inference.engine.density import Density
from posterity.inference.program import Program, over_draws

ROWS = 16
# Looking takes at most about a tenth of the time.
SHARE = 10.0


class Monitor:
    """Means of the likelihood at up to 16 rows, where it has finite ones, and the log density."""

    def __init__(self, density: Density, program: Program, settings: Any) -> None:
        self.density, self.program, self.chains = density, program, settings.chains
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.values: list[np.ndarray] = []
        self.watched = settings.chains > 1 and (settings.progress or settings.target_ess is not None)
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

    def _look(self) -> None:
        if not self.pending or time.perf_counter() < self.next_look:
            return
        if len(self.values) + len(self.pending) < 8:
            return
        begun = time.perf_counter()
        self.values.append(self._functions())
        self.pending = []
        draws = np.concatenate(self.values, 1)
        moving = np.ptp(draws, axis=(0, 1)) > 0
        if draws.shape[1] >= 4 and moving.any() and np.isfinite(draws).all():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = function_convergence(draws[..., moving])
            self._rhat, self._ess = float(found.rhat.max()), float(found.ess_bulk.min())
        self.next_look = time.perf_counter() + SHARE * (time.perf_counter() - begun)

    def _functions(self) -> np.ndarray:
        positions = torch.stack([q for q, _ in self.pending], 1)  # (chain, draw, dim)
        density = torch.stack([v for _, v in self.pending], 1)[..., None].double()
        draws = {name: v.flatten(0, 1) for name, v in self.density.constrain(positions).items()}
        likelihood = over_draws(
            self.density.model, self.density.args, draws, self.program.site, others=self.program.observed
        )[0]
        try:
            functions = likelihood.mean
        except NotImplementedError:
            functions = torch.full((len(positions),), torch.nan)
        functions = functions.reshape(*positions.shape[:2], -1).double()
        if not bool(torch.isfinite(functions).all()):
            return density.cpu().numpy()
        rows = torch.linspace(0, functions.shape[-1] - 1, min(ROWS, functions.shape[-1])).round().long()
        return torch.cat([functions[..., rows.to(functions.device)], density], -1).cpu().numpy()
