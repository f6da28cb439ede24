"""Chains whose fault is known, as ArviZ data and as posteriors."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from scipy.signal import lfilter

from posterity.inference import Posterior
from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics.sampling.report import ConvergenceReport, convergence_report
from posterity.inference.program.sites import inspect

SETTINGS = "NUTS(draws=1000, chains=4, superchains=None, target_accept=0.8, max_tree_depth=10)"


def independent(seed: int, chains: int = 4, draws: int = 1000, points: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(chains, draws, points))


def autoregressive(rng: np.random.Generator, coefficient: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draws along the second dimension, from a stationary start."""
    noise = rng.normal(size=shape)
    noise[:, 0] /= np.sqrt(1 - coefficient**2)
    return lfilter([1.0], [1.0, -coefficient], noise, axis=1)


def data(f: np.ndarray, stats: dict[str, np.ndarray] | None = None, **attrs):
    """ArviZ data of functions f at x = 0, 0.5, ... and of a sampler at its best, or with other ``stats``."""
    posterior = xr.Dataset({"f": (("chain", "draw", "x"), f)}, coords={"x": np.arange(f.shape[2]) / 2})
    rng, shape = np.random.default_rng(99), f.shape[:2]
    kept = {
        "energy": rng.normal(size=shape),
        "diverging": np.zeros(shape, bool),
        "acceptance_rate": np.full(shape, 0.9),
        **(stats or {}),
    }
    sample_stats = xr.Dataset({name: (("chain", "draw"), values) for name, values in kept.items()})
    return from_groups({"posterior": posterior, "sample_stats": sample_stats}, {"settings": SETTINGS, **attrs})


def report(f: np.ndarray, stats: dict[str, np.ndarray] | None = None, **attrs) -> ConvergenceReport:
    return convergence_report(data(f, stats, **attrs), var_names="f")


def names(found: ConvergenceReport) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in found.findings]


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


def classes(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Categorical(logits=x[:, None] * w), obs=y)


X = torch.linspace(-1, 1, 12)


GRID = torch.tensor([-0.5, 0.0, 0.7])


FAST = {"engine": "eager", "threads": 1, "progress": False}


def squared(x, y=None):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(m**2 + x, 1.0), obs=y)


def mirrored(spread: torch.Tensor, settings: str = SETTINGS, chains: int = 4) -> Posterior:
    """Draws of m near 2 times ``spread`` (chain,)."""
    m = 2 + 0.1 * torch.as_tensor(independent(3, chains, 500, 1)[..., 0])
    stats = {"lp": -((m - 2) ** 2), "diverging": torch.zeros(m.shape, dtype=torch.bool)}
    attrs = {"method": "NUTS", "settings": settings}
    return Posterior(squared, inspect(squared, (X, X)), {"m": m * spread[:, None]}, stats, attrs=attrs)


SHAPES = {
    "net.hidden1.weight": (2, 1),
    "net.hidden1.bias": (2,),
    "net.output.weight": (1, 2),
    "net.output.bias": (1,),
}


def funnel(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Neal's funnel and something else, (v, theta, other); what diverged is where its neck is narrow, v < -4."""
    rng = np.random.default_rng(seed)
    v = 3 * autoregressive(rng, 0.6, (4, 1000)) * np.sqrt(1 - 0.36)
    theta = np.exp(v / 2) * rng.normal(size=v.shape)
    return np.stack([v, theta, rng.normal(size=v.shape)], -1), v < -4


HIT = np.eye(2, 10, dtype=bool)


class Meanless:
    """What a posterior is to the report, of a likelihood that nobody knows the mean of."""

    num_chains, num_draws, function_draws = 2, 5, None

    def inputs(self, x):
        return (x,)

    def likelihood(self, x):
        return torch.distributions.Distribution(torch.Size([10, len(x)]), validate_args=False)
