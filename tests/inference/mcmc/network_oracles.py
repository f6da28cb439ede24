"""Networks small enough for their exact posterior: what the functions of a sampler's draws must average to.

`OneUnit` is y = c + v tanh(w x + b) + noise. Given (w, b) it is linear in (v, c), whose posterior and evidence are
Gaussian in closed form (Bishop 2006, "Pattern Recognition and Machine Learning", eqs 3.49-3.54 and 3.86); what is
left is a smooth two-dimensional integral over (w, b), by the trapezoidal rule, which converges geometrically.

`LastLayer` is y = phi(x) u + c + noise with frozen random features phi: the closed form alone.

Both models are written as a user would, by `bayesian`, and both are float64.
"""

import math
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from posterity.models import bayesian, gaussian, mlp, priors

AT = torch.linspace(-3.0, 3.0, 9, dtype=torch.double)[:, None]  # beyond the data on both sides
UNIT = mlp(1, 1, 1, seed=0).double()
FROZEN = mlp(1, 6, 1, seed=3).double()
FROZEN.hidden1.requires_grad_(False)


def linear_posterior(features: Tensor, y: Tensor, prior_sd: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (..., p), covariance (..., p, p) and log evidence (...) of y ~ N(features u, noise), u ~ N(0, prior_sd).

    ``features`` (..., n, p).
    """
    n = features.shape[-2]
    precision = features.mT @ features / noise**2 + torch.diag(prior_sd**-2)
    covariance = torch.linalg.inv(precision)
    mean = (covariance @ (features.mT @ y)[..., None])[..., 0] / noise**2
    misfit = ((y - (features @ mean[..., None])[..., 0]) ** 2).sum(-1) / noise**2 + (mean**2 / prior_sd**2).sum(-1)
    volume = torch.logdet(precision) + 2 * prior_sd.log().sum() + 2 * n * math.log(noise) + n * math.log(2 * math.pi)
    return mean, covariance, -0.5 * (misfit + volume)


@dataclass(frozen=True, eq=False)
class OneUnit:
    """Data (n, 1) and (n,), the known noise, and the prior sd of weights and of biases."""

    x: Tensor
    y: Tensor
    noise: float = 0.6
    weight_sd: float = 1.0
    bias_sd: float = 1.0

    @classmethod
    def example(cls) -> "OneUnit":
        """Few, noisy points: both signs of the unit are joined, and no ridge of small w and large v holds a chain."""
        x = torch.linspace(-1.5, 2.0, 6, dtype=torch.double)[:, None]
        noise = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        return cls(x, 0.5 + 1.5 * torch.tanh(x[:, 0] - 0.5) + 0.6 * noise)

    def model(self, x, y=None):
        prior = priors.Normal(scale=self.weight_sd, bias_scale=self.bias_sd)
        features = bayesian("net", UNIT, prior)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, self.noise), obs=y)

    def function_moments(
        self, at: Tensor = AT, *, points: int = 161, reach: float = 6.0, positive_w: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Posterior mean and sd of f at ``at`` (m, 1), by ``points`` ** 2 of (w, b) to ``reach`` prior sd.

        The grid's own error is below 1e-6 for `example`, where an sd is 0.4 (`points` doubled, or `reach` 8).
        ``positive_w`` integrates over w > 0 alone: half of the posterior, as (w, b, v) and -(w, b, v) are one network.
        """
        grid = torch.linspace(-reach, reach, points, dtype=torch.double)
        w, b = torch.meshgrid(self.weight_sd * grid, self.bias_sd * grid, indexing="ij")
        output_sd = torch.tensor([self.weight_sd, self.bias_sd], dtype=torch.double)  # fan-in 1 divides by 1
        mean, covariance, evidence = linear_posterior(_unit(w, b, self.x), self.y, output_sd, self.noise)
        log_weight = evidence - 0.5 * (w / self.weight_sd) ** 2 - 0.5 * (b / self.bias_sd) ** 2
        if positive_w:  # the line w = 0 belongs to both halves
            log_weight = log_weight + torch.where(w.abs() < 1e-9, math.log(0.5), torch.where(w > 0, 0.0, -math.inf))
        weight = torch.softmax(log_weight.flatten(), 0)
        features = _unit(w, b, at)
        first = (features @ mean[..., None])[..., 0].flatten(0, 1)
        variance = (features @ covariance * features).sum(-1).flatten(0, 1)
        total = weight @ first
        return total, (weight @ (variance + (first - total) ** 2)).sqrt()


def _unit(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The unit's output and a constant, (..., n, 2)."""
    hidden = torch.tanh(w[..., None] * x[:, 0] + b[..., None])
    return torch.stack([hidden, torch.ones_like(hidden)], -1)


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Random tanh features, frozen, under a Gaussian last layer with known noise."""

    x: Tensor
    y: Tensor
    noise: float = 0.5
    weight_sd: float = 0.7
    bias_sd: float = 1.0

    @classmethod
    def example(cls) -> "LastLayer":
        x = torch.linspace(-2.0, 2.0, 20, dtype=torch.double)[:, None]
        noise = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.double)
        return cls(x, torch.sin(2 * x[:, 0]) + 0.5 * noise)

    def model(self, x, y=None):
        prior = priors.Normal(scale=self.weight_sd, fan_in=False, bias_scale=self.bias_sd)
        features = bayesian("net", FROZEN, prior)(3.0 * x)  # the hidden layer wants no gradient and stays as it is
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, self.noise), obs=y)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, (n, 7): six hidden units and a constant."""
        with torch.no_grad():
            return torch.cat([FROZEN[:2](3.0 * x), torch.ones_like(x)], -1)

    def weight_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (7,) and covariance (7, 7) of the weights and the bias of the last layer."""
        prior_sd = torch.tensor([self.weight_sd] * 6 + [self.bias_sd], dtype=torch.double)
        mean, covariance, _ = linear_posterior(self.features(self.x), self.y, prior_sd, self.noise)
        return mean, covariance

    def function_moments(self, at: Tensor = AT) -> tuple[Tensor, Tensor]:
        """Posterior mean and sd of f at ``at`` (m, 1)."""
        mean, covariance = self.weight_moments()
        features = self.features(at)
        return features @ mean, (features @ covariance * features).sum(-1).sqrt()
