"""Watching a run never ends it, whatever the likelihood; and it stops runs of one chain too."""

from types import SimpleNamespace

import joblib
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, Blocks, infer
from posterity.inference.engine import Density
from posterity.inference.mcmc.monitor import Monitor
from posterity.inference.program import inspect

X = torch.linspace(-1, 1, 20)[:, None]
Y = 0.5 * X[:, 0] + 0.1 * torch.cos(20 * X[:, 0])
LIKELIHOODS = {
    "no mean": lambda f: dist.TransformedDistribution(dist.Normal(f, 1.0), [dist.transforms.AffineTransform(0.0, 2.0)]),
    "unknown": lambda f: dist.MaskedMixture(f > -torch.inf, dist.Normal(f, 1.0), dist.Normal(f, 2.0)),
    "nan": lambda f: dist.Cauchy(f, 1.0),
    "plain": lambda f: dist.Normal(f, 1.0),
}


def model_of(likelihood):
    def model(x, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", likelihood(a * x[:, 0]), obs=y)

    return model


def heavy(x, y=None):
    """Its mean is there where nu > 1 alone: in some batches of draws, and not in others."""
    nu = pyro.sample("nu", dist.Gamma(2.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.StudentT(nu, x[:, 0], 1.0), obs=y)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_any_likelihood_can_be_watched(name):
    method = HMC(chains=2, warmup=10, draws=40, target_ess=80.0, engine="eager", threads=1, progress=False)
    assert 8 <= infer(model_of(LIKELIHOODS[name]), X, Y, method=method).num_draws <= 40


def watched(model, batches, chains=2):
    density = Density(model, (X, Y))
    settings = SimpleNamespace(chains=chains, progress=False, target_ess=100.0)
    monitor = Monitor(density, inspect(model, (X, Y)), settings)
    found = []
    for batch in batches:
        for q in batch:
            monitor.add(q, -q.square().sum(-1))
        monitor.next_look = 0.0
        found.append(monitor.ess())
    return monitor, found


def test_a_mean_that_is_there_in_one_batch_of_draws_is_not_missed_in_the_next():
    nu = torch.tensor([3.0, 0.5, 3.0]).log()[:, None, None, None] + 0.01 * torch.randn(3, 50, 2, 1)
    monitor, found = watched(heavy, nu)
    assert [values.shape for values in monitor.values] == [(2, 50, 17)] * 3
    assert [bool(values.isnan().any()) for values in map(torch.tensor, monitor.values)] == [False, True, False]
    assert all(0 < ess <= 600 for ess in found)


def test_the_two_halves_of_one_chain_are_compared():
    still = torch.randn(400, 1, 1)
    monitor, (ess,) = watched(model_of(LIKELIHOODS["plain"]), [still], chains=1)
    assert 250 < ess < 600  # of 400 independent draws
    assert monitor.rhat() < 1.05
    monitor, _ = watched(model_of(LIKELIHOODS["plain"]), [still + torch.arange(400.0)[:, None, None] / 100], chains=1)
    assert monitor.rhat() > 1.5


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_target_stops_one_chain(blocks):
    method = HMC(chains=blocks, warmup=50, draws=20_000, target_ess=50.0 * blocks, engine="compiled", progress=False)
    model = model_of(LIKELIHOODS["plain"])
    if blocks == 1:
        posterior = infer(model, X, Y, method=method)
    else:
        with joblib.parallel_config(backend="sequential"):
            posterior = infer(model, X, Y, method=Blocks(method, blocks=blocks))
    assert posterior.num_draws < 20_000
