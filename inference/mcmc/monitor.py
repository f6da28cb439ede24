"""Convergence during a run: for the progress bar, for a target ESS, and for the report at the end.

The result at the end does not depend on whether convergence was computed during the run.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from posterity.inference.convergence.thresholds import RHAT_DRAWS
from posterity.inference.engine.density import Density
from posterity.inference.mcmc.agreement import Agreement, ComparedFunctions, agreement
from posterity.inference.program.sites import Program

PIECE = 256  # draws of each chain per batch, since a resumed run may have any number of new draws
SHARE = 10.0  # monitoring takes at most about a tenth of the time


class ChainMonitor:
    """Means of the likelihood at 16 rows, the log density, and the named sites: see `ComparedFunctions`.

    ``positions`` (each (chain, dim)) and ``statistics`` are the lists of the run, which grow during sampling.
    """

    def __init__(
        self, density: Density, program: Program, positions: list[Tensor], statistics: list[dict[str, Tensor]]
    ) -> None:
        self.density, self.positions, self.statistics = density, positions, statistics
        self.functions = ComparedFunctions(density.model, density.args, program)
        self.values: list[np.ndarray] = []
        self.sites: list[np.ndarray] = []
        self.labels: list[str] = []  # one for each element of the sites
        self.next_look = 0.0
        self.found = Agreement()

    def rhat(self) -> float:
        """The largest R-hat of functions when last computed; nan before."""
        self._look_on_the_way()
        return self.found.rhat

    def ess(self) -> float:
        """The smallest bulk ESS of functions when last computed; 0 before."""
        self._look_on_the_way()
        return self.found.ess if math.isfinite(self.found.ess) else 0.0

    def last(self) -> Agreement:
        """Agreement over all draws, including those since convergence was last computed."""
        if self._new:
            self._look()
        return self.found

    @property
    def _new(self) -> int:
        return len(self.statistics) - sum(part.shape[1] for part in self.values)

    def _look_on_the_way(self) -> None:
        if not self._new or len(self.statistics) < 2 * RHAT_DRAWS or time.perf_counter() < self.next_look:
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
