"""Convergence while a sampler runs: for the progress bar, for a target ESS, and for what is said at the end.

What is computed at the end is the same whether or not anybody looked on the way.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.mcmc.agreement import Agreement, Functions, agreement
from posterity.inference.program import Program

PIECE = 256  # draws of each chain at a time: after a resumed run's there may be any number
SHARE = 10.0  # looking on the way takes at most about a tenth of the time
LEAST = 8  # draws before the first look on the way


class Monitor:
    """Means of the likelihood at 16 rows, the log density, and the named sites: see `Functions`.

    ``positions`` (each (chain, dim)) and ``statistics`` are the run's own lists, which grow while it goes on.
    """

    def __init__(
        self, density: Density, program: Program, positions: list[Tensor], statistics: list[dict[str, Tensor]]
    ) -> None:
        self.density, self.positions, self.statistics = density, positions, statistics
        self.functions = Functions(density.model, density.args, program)
        self.values: list[np.ndarray] = []
        self.sites: list[np.ndarray] = []
        self.labels: list[str] = []  # of the elements of sites
        self.next_look = 0.0
        self.found = Agreement()

    def rhat(self) -> float:
        """The largest R-hat of functions as of the last look; nan before the first."""
        self._look_on_the_way()
        return self.found.rhat

    def ess(self) -> float:
        """The smallest bulk ESS of functions as of the last look; 0 before the first."""
        self._look_on_the_way()
        return self.found.ess if math.isfinite(self.found.ess) else 0.0

    def last(self) -> Agreement:
        """Of all draws, whenever the last look was."""
        if self._new:
            self._look()
        return self.found

    @property
    def _new(self) -> int:
        return len(self.statistics) - sum(part.shape[1] for part in self.values)

    def _look_on_the_way(self) -> None:
        if not self._new or len(self.statistics) < LEAST or time.perf_counter() < self.next_look:
            return
        begun, first = time.perf_counter(), not self.values
        self._look()
        # What the first look takes says nothing: most of it is done once.
        now = time.perf_counter()
        self.next_look = now if first else now + SHARE * (now - begun)

    def _look(self) -> None:
        count = len(self.statistics)
        for begin in range(count - self._new, count, PIECE):
            end = min(begin + PIECE, count)
            self._read(self.positions[begin:end], self.statistics[begin:end])
        self.found = agreement(np.concatenate(self.values, 1), np.concatenate(self.sites, 1), self.labels)

    def _read(self, positions: Sequence[Tensor], statistics: Sequence[dict[str, Tensor]]) -> None:
        density = torch.stack([kept["lp"] for kept in statistics], 1)[..., None].double().cpu().numpy()
        draws = self.density.constrain(torch.stack(list(positions), 1).to(self.density.device, self.density.dtype))
        elements, self.labels = self.functions.sites(draws)
        self.sites.append(elements)
        self.values.append(np.concatenate([self.functions.predicted(draws), density], -1))
