"""Models, methods and faults that tests of refits share."""

import os
import signal
import time
from dataclasses import dataclass, fields

import joblib
import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr

from posterity.inference import HMC, Posterior
from posterity.inference.diagnostics.simulation.refits import refit
from posterity.inference.program.sites import inspect
from posterity.random import seeded

X = torch.linspace(0.0, 1.0, 5)


NOISE = 0.5


SHORT = HMC(chains=4, warmup=10, draws=5, engine="eager", progress=False)


def line_model():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        pyro.deterministic("end", w.sum())
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w[0] + w[1] * x, NOISE * s), obs=y)

    return model


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Draws of the prior whatever the data; ``hook(seed)`` is called first. Its draws are those of ``seed``."""

    hook: object = None
    draws: int = 40
    stats: bool = False
    progress: bool = True

    def run(self, model, *args, seed, guide=None, site=None):
        if self.hook is not None:
            self.hook(seed)
        with seeded(seed):
            values = {"w": torch.randn(1, self.draws, 2), "s": (0.1 * torch.randn(1, self.draws)).exp()}
        statistics = {"lp": torch.zeros(1, self.draws)} if self.stats else {}
        return Posterior(model, inspect(model, args, site), draws=values, sample_stats=statistics)


def refits(method=None, *, backend="sequential", model=None, **settings):
    with joblib.parallel_config(backend):
        chosen = {"count": 6, "draws": 20, "seed": 3, "progress": False} | settings
        return refit(model or line_model(), X, method=method or Prior(), **chosen)


def assert_same(one, other):
    xr.testing.assert_identical(one.drop_vars("seconds").drop_attrs(), other.drop_vars("seconds").drop_attrs())


def with_site(sample):
    """A line with one more statement."""

    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
        sample(w)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    return model


def transforming(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=None if y is None else y.sinh())


def weighted(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.poutine.scale(scale=2.0), pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def infinite(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.LogNormal(200.0 * w + x, 1.0), obs=y)


def without_latents(x, y=None):
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def asking(x, y):
    return transforming(x, y)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Chains of coefficient 0.9: worth (1 - 0.9) / (1 + 0.9) of their length, near 1 in 19."""

    chains: int = 2
    draws: int = 300
    log: tuple = ()

    def run(self, model, *args, seed, guide=None, site=None):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(self.chains, self.draws, 3))
        for step in range(1, self.draws):
            noise[:, step] = 0.9 * noise[:, step - 1] + 0.19**0.5 * noise[:, step]
        values = torch.as_tensor(noise, dtype=torch.float32)
        draws = {"w": values[..., :2], "s": values[..., 2].exp()}
        program = inspect(model, args, site)
        return Posterior(model, program, draws=draws, sample_stats={"lp": values[..., 0]})


def interrupting(after):
    """A hook that interrupts at the call after so many, once."""
    calls = []

    def hook(seed):
        calls.append(seed)
        if len(calls) == after + 1:
            raise KeyboardInterrupt

    return hook


def failing(seeds):
    def hook(seed):
        if seed in seeds:
            raise RuntimeError("no luck today")

    return hook


def deadly_method(folder, victim, *, wait, always=False):
    """HMC that logs the seed of each refit, and kills its process at seed ``victim`` when ``wait`` are done."""
    parent = os.getpid()

    class Deadly(HMC):
        def run(self, model, *args, seed, guide=None, site=None):
            if seed == victim and os.getpid() != parent and (always or not (folder / "died").exists()):
                while len(logged(folder)) < wait:
                    time.sleep(0.02)
                time.sleep(0.5)  # for what is done to reach the parent
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            posterior = super().run(model, *args, seed=seed, guide=guide, site=site)
            with (folder / "done").open("a") as file:
                file.write(f"{seed}\n")
            return posterior

    return Deadly(**{f.name: getattr(SHORT, f.name) for f in fields(SHORT)})


def logged(folder):
    path = folder / "done"
    return path.read_text().split() if path.exists() else []
