"""Models, short settings, a closed-form engine and interrupts that the tests of the samplers share."""

import contextlib
import functools
import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from posterity.inference import HMC, MCLMC, NUTS, Posterior
from posterity.inference.engine import Density, Engine
from posterity.inference.mcmc.hmc import HMCKernel
from posterity.inference.mcmc.microcanonical import AdjustedKernel, UnadjustedKernel
from posterity.inference.mcmc.nuts import NUTSKernel

X = torch.linspace(-2, 2, 10)[:, None]
Y = torch.sin(2 * X[:, 0])
FAMILIES = {"HMC": HMC, "NUTS": NUTS}
SAMPLERS: dict[str, Any] = {**FAMILIES, "MCLMC": MCLMC, "adjusted": functools.partial(MCLMC, adjusted=True)}
KERNELS = {"HMC": HMCKernel, "NUTS": NUTSKernel, "MCLMC": UnadjustedKernel, "adjusted": AdjustedKernel}
COMMON = {"chains": 3, "warmup": 30, "draws": 12, "engine": "eager", "threads": 1, "progress": False}
SHORT = {"HMC": {"window": 2, "max_steps": 8}, "NUTS": {"max_tree_depth": 3}, "MCLMC": {"steps": 4}, "adjusted": {}}

both = pytest.mark.parametrize("name", FAMILIES)
every = pytest.mark.parametrize("name", SAMPLERS)


def short(name: str, **changes: Any) -> HMC | NUTS | MCLMC:
    """Settings with few and short trajectories."""
    return SAMPLERS[name](**{**COMMON, **SHORT[name], **changes})


def line(x, y=None):
    """A regression line through zero with unknown noise."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], sigma), obs=y)


def line_gradient(q: Tensor) -> tuple[Tensor, Tensor]:
    """Log joint and gradient of `line` at (w, log sigma), for data X and Y, in closed form."""
    w, s = q.unbind(-1)
    misfit = Y.to(q) - w[:, None] * X[:, 0].to(q)
    precision = torch.exp(-2 * s)
    squares = (misfit**2).sum(-1)
    value = -0.5 * w**2 - 0.5 * ((s + 1) / 0.5) ** 2 - math.log(0.5) - 0.5 * precision * squares - len(Y) * s
    value = value - (2 + len(Y)) * 0.5 * math.log(2 * math.pi)
    slope = torch.stack(
        [-w + precision * (misfit * X[:, 0].to(q)).sum(-1), -(s + 1) / 0.25 + precision * squares - len(Y)], -1
    )
    return value, slope


def line_engine(density: Density, positions: Tensor, **settings: Any) -> Engine:
    """An engine of `line` in place of `prepare`: a hundred times as fast as Pyro's model, and no preparation."""
    return Engine(density, len(positions), "eager", line_gradient)


def same(one: Posterior, two: Posterior) -> bool:
    """Whether draws and statistics are equal bit for bit."""
    return all(torch.equal(one.draws[n], two.draws[n]) for n in one.draws) and all(
        torch.equal(one.sample_stats[n], two.sample_stats[n]) for n in one.sample_stats
    )


class Given:
    """Random numbers of one transition that a test chooses: normals (chain, dim), uniforms by index or all others."""

    def __init__(self, normals: Tensor, uniforms: dict[int, Tensor] | None = None, seed: int = 0) -> None:
        self._normals, self._uniforms = normals, dict(uniforms or {})
        self._generator = torch.Generator().manual_seed(seed)

    def normals(self) -> Tensor:
        return self._normals

    def uniforms(self, index: int, chains: Tensor | None = None) -> Tensor:
        if index not in self._uniforms:
            count = len(self._normals)
            self._uniforms[index] = torch.rand(count, dtype=torch.double, generator=self._generator)
        numbers = self._uniforms[index]
        return numbers if chains is None else numbers[chains]


@contextlib.contextmanager
def interrupted_at(name: str, iteration: int):
    """A keyboard interrupt instead of one transition."""
    kernel, count = KERNELS[name], iter(range(10_000))
    transition = kernel.transition

    def stop(self, *args):
        if next(count) == iteration:
            raise KeyboardInterrupt
        return transition(self, *args)

    kernel.transition = stop
    try:
        yield
    finally:
        kernel.transition = transition
