"""The true functions, their data, and the Bayesian network that is fitted to all of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.data import Observations, Standardization, gp_curve, sinc_curve, sine_parabola
from posterity.models import Pair, bayesian, bayesian_mixture_density, gaussian, mixture_head, mlp, priors
from posterity.random import as_generator

LENGTH_SCALE = 1.5  # of the Gaussian process, in units of x
GRID = 241  # points of the figures

OUTPUT_BIAS = 0.1
# In standardised units. A wide layer of cosines is a Gaussian process of length scale 1/4; the amplitude is 1.
PRIOR = {
    "": priors.Normal(),
    "hidden1": priors.Normal(scale=4.0, bias_scale=4.0),
    "output": priors.Normal(scale=2**0.5, bias_scale=OUTPUT_BIAS),
}
NOISE = (math.log(0.3), 1.0)  # log-normal prior of the standard deviation of the noise
FLOOR = 0.02  # smallest standard deviation of y given x, without which a mode may interpolate the data


@dataclass(frozen=True)
class Curve:
    """A true function on ``interval``, without points in ``gap``, shown on ``shown``."""

    name: str
    title: str
    simulate: Callable[..., Observations]
    interval: tuple[float, float]
    gap: tuple[float, float]
    shown: tuple[float, float]
    known: Standardization | None = None  # units in which the prior of the network is that of the curve

    def data(self, points: int, noise: float, seed: int) -> Observations:
        return self.simulate(points, noise=noise, interval=self.interval, gap=self.gap, seed=seed)

    def scale(self, data: Observations) -> Standardization:
        """The units of the network: those of the process that drew the curve, or those of the data."""
        return self.known or Standardization.fit(data)

    def fresh(self, data: Observations, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """New points as those of ``data``: x (count, 1), y and the true function there (count,)."""
        generator = as_generator(seed)
        (low, high), (left, right) = self.interval, self.gap
        x = low + (high - low - (right - left)) * torch.rand(count, generator=generator)
        x = torch.where(x < left, x, x + right - left)[:, None]
        exact = data.oracle(x)  # type: ignore[misc]
        return x, exact.mean + exact.stddev * torch.randn(count, generator=generator), exact.mean

    def grid(self) -> Tensor:
        """Points (GRID, 1) over the whole axis."""
        return torch.linspace(*self.shown, GRID)[:, None]

    def regions(self, x: Tensor) -> dict[str, Tensor]:
        """Which points of ``x`` (N, 1) are among the data, in the gap, and outside."""
        at = x[:, 0]
        outside = (at < self.interval[0]) | (at > self.interval[1])
        gap = (at > self.gap[0]) & (at < self.gap[1])
        return {"data": ~outside & ~gap, "gap": gap, "outside": outside}


def _gaussian_process(points: int, **settings: object) -> Observations:
    return gp_curve(points, length_scale=LENGTH_SCALE, **settings)  # type: ignore[arg-type]


PROCESS = Standardization(torch.zeros(1), torch.tensor([4 * LENGTH_SCALE]), torch.zeros(()), torch.ones(()))
CURVES = {
    curve.name: curve
    for curve in (
        Curve("gp", "a draw of a Gaussian process", _gaussian_process, (-10, 10), (2, 6), (-14, 14), PROCESS),
        Curve("sinc", "sin(x) / x", sinc_curve, (-10, 10), (2, 6), (-14, 14)),
        Curve("wave", "sin(x) + 0.1 x²", sine_parabola, (-4, 4), (0, 1.6), (-5.6, 5.6)),
    )
}


def network(scale: Standardization, hidden: tuple[int, ...]) -> Callable[..., Tensor]:
    """The Bayesian network, a Pyro model: one noise for all x, with the prior `NOISE`."""
    net = mlp(1, *hidden, 1, activation="cos", seed=0)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        likelihood = likelihood_of(net, scale, x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", likelihood, obs=y)

    return model


def likelihood_of(net: nn.Module, scale: Standardization, x: Tensor) -> Distribution:
    """The part of the model that does not see y: weights, noise, and the distribution of y at x (N, 1)."""
    mean = bayesian("net", net, PRIOR)(scale.x(x))
    noise = pyro.sample("noise", dist.LogNormal(*NOISE))
    return scale.undo(gaussian(mean, (noise**2 + FLOOR**2).sqrt()))


def mixture_network(scale: Standardization, hidden: tuple[int, ...]) -> Pair:
    """A mixture density network of three components with the same prior; its posterior mode is what is fitted."""
    head = mixture_head(3, floor=FLOOR)
    net = mlp(1, *hidden, head.features, activation="cos", seed=0)
    return bayesian_mixture_density(scale, head=head, net=net, prior=PRIOR)
