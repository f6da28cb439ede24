"""Tuning of unadjusted microcanonical dynamics: step sizes from energy errors, and the decoherence length.

From Robnik, De Luca, Silverstein & Seljak 2023 ("Microcanonical Hamiltonian Monte Carlo", JMLR 24), section 4.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ORDER = 6  # the variance of the energy error of a step is proportional to this power of the step size
MEMORY, CALLS = 150, 20  # numbers of steps and of updates that an estimate remembers
LIMIT, FAR_LIMIT = 1e3, 1e6  # of one ratio, so that a step size changes at most threefold; tenfold in the approach
PER_SAMPLE = 0.4  # decoherence length as a fraction of the path for one independent draw
RESOLVED = 2.0  # smallest autocorrelation time in draws that tells a length
LONGEST = 2.0  # limit of the decoherence length in roots of the total variance, for coordinates that change slowly


@dataclass(frozen=True)
class EnergyVariance:
    """A running estimate of the step size at which squared energy errors have the desired mean.

    ``total`` and ``weight`` have one number for each estimate, or none.
    """

    total: Tensor
    weight: Tensor

    def updated(
        self, ratio: Tensor, sizes: Tensor, steps: int, limit: float = LIMIT, long: bool = False
    ) -> "EnergyVariance":
        """The estimate after ``steps`` more steps of ``sizes``.

        ``ratio`` is their mean squared energy error divided by the desired one, and infinite for steps to a state that
        is not finite; it is clamped between 1 / ``limit`` and ``limit``. A single estimate takes the mean over its
        chains. A ``long`` memory has at least 20 updates, for errors with heavy tails.
        """
        kept = ((MEMORY - 1) / (MEMORY + 1)) ** steps
        kept = max(kept, 1 - 1 / CALLS) if long else kept
        found = torch.nan_to_num(ratio, nan=torch.inf).clamp(1 / limit, limit) / sizes**ORDER
        found = found if self.total.ndim else found.mean()
        return EnergyVariance(kept * self.total + found, kept * self.weight + 1)

    def log_step(self) -> Tensor:
        """The logarithm of the step size."""
        return (self.weight / self.total).log() / ORDER

    def forgotten(self) -> "EnergyVariance":
        """An estimate without data."""
        return EnergyVariance(torch.zeros_like(self.total), torch.zeros_like(self.weight))


def decoherence(draws: Tensor, size: float, path: float, pooling: str) -> float:
    """The decoherence length for draws (chain, draw, coordinate) that are ``path`` apart.

    It is 0.4 times the path for one independent draw, as a median over coordinates, if their autocorrelation time is at
    least two draws. Otherwise it is ``size``, the root of the total variance.
    """
    time = float(autocorrelation_times(draws, pooling).median())
    length = PER_SAMPLE * path * time if time >= RESOLVED else size
    return min(length, LONGEST * size)


def autocorrelation_times(draws: Tensor, pooling: str = "within") -> Tensor:
    """Integrated autocorrelation times of draws (chain, draw, coordinate), in draws: (coordinate,).

    Autocovariances are means over chains, about the mean of each chain or with ``pooling`` "across" of all. The sum
    ends before the first pair of lags whose sum is negative (Geyer 1992).
    """
    count = draws.shape[1]
    centred = draws - draws.mean((0, 1) if pooling == "across" else 1, keepdim=True)
    size = 2 ** math.ceil(math.log2(2 * count))
    spectrum = torch.fft.rfft(centred, size, dim=1)
    covariance = torch.fft.irfft(spectrum * spectrum.conj(), size, dim=1)[:, :count].mean(0)
    rho = covariance / covariance[:1].clamp_min(1e-300)
    pairs = rho[: count // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).long().cumprod(0)
    return (2 * (pairs * positive).sum(0) - 1).clamp_min(1.0)
