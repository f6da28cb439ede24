"""The exact posterior of a curve that was drawn from a Gaussian process, for an unknown noise."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from _bnn.curves import FLOOR, LENGTH_SCALE, NOISE, OUTPUT_BIAS
from posterity.data import Observations
from posterity.models import GaussianProcess, Mixture
from posterity.models.kernels import squared_exponential

NEGLIGIBLE = 20.0  # nats below the most probable noise, from which on a noise is left out
VALUES = 40  # values of the noise over which the posterior is averaged


@dataclass(frozen=True)
class ExactPrediction:
    """Averages over the noise: a `Mixture` for y, and the moments of the function; all at N inputs."""

    log_weights: Tensor  # (S,)
    means: Tensor  # (N, S)
    variances: Tensor  # (N, S), of the function
    noises: Tensor  # (S,), standard deviations

    @cached_property
    def mixture(self) -> Mixture:
        return Mixture.normal(
            self.log_weights.expand_as(self.means), self.means, (self.variances + self.noises**2).sqrt()
        )

    @property
    def mean(self) -> Tensor:
        return self.means @ self.log_weights.exp()

    @property
    def epistemic(self) -> Tensor:
        """Variance of the function, with the uncertainty of the noise."""
        weights = self.log_weights.exp()
        return self.variances @ weights + (self.means - self.mean[:, None]) ** 2 @ weights

    @property
    def variance(self) -> Tensor:
        return self.epistemic + (self.noises**2) @ self.log_weights.exp()

    def log_prob(self, y: Tensor) -> Any:
        return self.mixture.log_prob(y)

    def cdf(self, y: Tensor) -> Any:
        return self.mixture.cdf(y)


def _kernel(x: Tensor, z: Tensor) -> Tensor:
    """The kernel of the process, and the variance of the bias of the network's output."""
    return squared_exponential(LENGTH_SCALE)(x, z) + OUTPUT_BIAS**2


class ExactPosterior:
    """The Gaussian process with the true kernel, given data; the noise has the prior of the network.

    The noise is integrated by a sum over its logarithm, around the most probable values: the evidence at each, times
    the prior, gives its weight.
    """

    def __init__(self, data: Observations) -> None:
        coarse = torch.logspace(-2, 0.5, VALUES)
        likely = self._condition(data, coarse)
        logs = coarse[likely > likely.max() - NEGLIGIBLE].log()
        step = float((coarse[1] / coarse[0]).log())
        self._condition(data, torch.linspace(float(logs[0]) - step, float(logs[-1]) + step, VALUES).exp())

    def _condition(self, data: Observations, noises: Tensor) -> Tensor:
        """Condition one process for each of the ``noises``; returns their log weights."""
        total = (noises**2 + FLOOR**2).sqrt()  # as in the network
        self.noises = total
        self.processes = [GaussianProcess(_kernel, float(noise)).condition(data.x, data.y) for noise in total]
        evidence = torch.tensor([process.log_evidence for process in self.processes])
        prior = dist.LogNormal(*NOISE).log_prob(noises) + noises.log()  # of the logarithm of the noise
        self.log_weights = (evidence + prior).log_softmax(0)
        return self.log_weights

    def predict(self, x: Tensor) -> ExactPrediction:
        functions = [process.function(x) for process in self.processes]
        means, variances = (
            torch.stack([getattr(function, name) for function in functions], 1) for name in ("mean", "variance")
        )
        return ExactPrediction(self.log_weights, means, variances, self.noises)

    def curves(self, x: Tensor, count: int, seed: int) -> Tensor:
        """Draws of the function (count, N) at the most probable noise."""
        mean, covariance = self.processes[int(self.log_weights.argmax())].moments(x)
        root = torch.linalg.cholesky(covariance + 1e-8 * torch.eye(len(mean), dtype=mean.dtype))
        draws = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=mean.dtype)
        return (mean + draws @ root.T).float()
