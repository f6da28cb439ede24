"""Convergence during a run, for the progress bar and a target ESS, and at its end.

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
from posterity.inference.program.reparam import Parametrisation
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model

PIECE = 256  # draws of each chain per batch, because a resumed run may begin with many
PAUSE = 10.0  # duration of the pause after a computation, in durations of the computation


class ChainMonitor:
    """R-hat and ESS of predictions, log density and named sites (see `ComparedFunctions`).

    ``positions``, each of shape (chain, dim), and ``statistics`` are the lists of the run, which grow during sampling.
    ``run`` is the run's `Parametrisation`, and ``model`` the user's model, if the sampler samples another one.
    """

    def __init__(
        self, density: Density, program: Program, positions: list[Tensor], statistics: list[dict[str, Tensor]],
        run: Parametrisation | None = None, model: Model | None = None,
    ) -> None:  # fmt: skip
        self.density, self.positions, self.statistics, self.parametrisation = density, positions, statistics, run
        self.functions = ComparedFunctions(model or density.model, density.args, program)
        self.values: list[np.ndarray] = []
        self.sites: list[np.ndarray] = []
        self.labels: list[str] = []  # names of the elements of the sites
        self.next_update = 0.0  # time of the next computation
        self.agreement = Agreement()

    def rhat(self) -> float:
        """The largest R-hat over functions when last computed; nan before that."""
        self._update_if_due()
        return self.agreement.rhat

    def ess(self) -> float:
        """The smallest bulk ESS over functions when last computed; 0 before that."""
        self._update_if_due()
        return self.agreement.ess if math.isfinite(self.agreement.ess) else 0.0

    def last(self) -> Agreement:
        """The agreement over all draws."""
        if self._new:
            self._update()
        return self.agreement

    @property
    def _new(self) -> int:
        """Number of draws since the last computation."""
        return len(self.statistics) - sum(part.shape[1] for part in self.values)

    def _update_if_due(self) -> None:
        """Compute convergence unless draws are missing or the last computation was too recent."""
        if not self._new or len(self.statistics) < 2 * RHAT_DRAWS or time.perf_counter() < self.next_update:
            return
        begun, first = time.perf_counter(), not self.values
        self._update()
        # No pause after the first computation, most of whose work is done only once.
        now = time.perf_counter()
        self.next_update = now if first else now + PAUSE * (now - begun)

    def _update(self) -> None:
        """Compute convergence of all draws; only new draws are evaluated."""
        count = len(self.statistics)
        for begin in range(count - self._new, count, PIECE):
            end = min(begin + PIECE, count)
            self._read(self.positions[begin:end], self.statistics[begin:end])
        self.agreement = agreement(np.concatenate(self.values, 1), np.concatenate(self.sites, 1), self.labels)

    def _read(self, positions: Sequence[Tensor], statistics: Sequence[dict[str, Tensor]]) -> None:
        density = torch.stack([draw["lp"] for draw in statistics], 1)[..., None].double().cpu().numpy()
        draws = self.density.constrain(torch.stack(list(positions), 1).to(self.density.device, self.density.dtype))
        if self.parametrisation is not None:
            draws = self.parametrisation.user_draws(self.density.args, draws)
        elements, self.labels = self.functions.sites(draws)
        self.sites.append(elements)
        self.values.append(np.concatenate([self.functions.predicted(draws), density], -1))
