"""The monitor of a run: it never ends one, whatever the likelihood, and it stops runs of one chain too."""

import itertools

import joblib
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, Blocks, infer
from posterity.inference.engine import Density
from posterity.inference.mcmc.monitor import ChainMonitor
from posterity.inference.program.sites import inspect
from tests.inference.mcmc.cases import line, short

X = torch.linspace(-1, 1, 20)[:, None]
Y = 0.5 * X[:, 0] + 0.1 * torch.cos(20 * X[:, 0])
CASE = (torch.linspace(-2, 2, 10)[:, None], torch.sin(2 * torch.linspace(-2, 2, 10)))
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
    settings = {"warmup": 5, "draws": 10, "step_size": 0.2, "max_steps": 2}
    method = HMC(chains=2, target_ess=20.0, engine="eager", threads=1, progress=False, **settings)
    assert 8 <= infer(model_of(LIKELIHOODS[name]), X, Y, method=method).num_draws <= 10


def watched(model, batches):
    density, positions, statistics = Density(model, (X, Y)), [], []
    monitor = ChainMonitor(density, inspect(model, (X, Y)), positions, statistics)
    found = []
    for batch in batches:
        for q in batch:
            positions.append(q)
            statistics.append({"lp": -q.square().sum(-1)})
        monitor.next_update = 0.0
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
    monitor, (ess,) = watched(model_of(LIKELIHOODS["plain"]), [still])
    assert 250 < ess < 600  # of 400 independent draws
    assert monitor.rhat() < 1.05
    monitor, _ = watched(model_of(LIKELIHOODS["plain"]), [still + torch.arange(400.0)[:, None, None] / 100])
    assert monitor.rhat() > 1.5


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_target_stops_one_chain(blocks, fast_engine, ticks):
    method = short("HMC", chains=blocks, draws=20_000, target_ess=50.0 * blocks)
    x, y = CASE
    if blocks == 1:
        posterior = infer(line, x, y, method=method)
    else:
        with joblib.parallel_config(backend="sequential"):
            posterior = infer(line, x, y, method=Blocks(method, blocks=blocks))
    assert posterior.num_draws < 2000


def test_convergence_is_computed_again_after_ten_times_as_long_as_it_took(ticks, monkeypatch):
    """By the clock of these tests a computation takes one second: then follow ten seconds without one."""
    updates = []

    def update(self):
        updates.append(ticks.value)
        self.values.append(None)

    monkeypatch.setattr(ChainMonitor, "_update", update)
    monkeypatch.setattr(ChainMonitor, "_new", 1)
    monitor = ChainMonitor(Density(line, CASE), inspect(line, CASE), [], [{}] * 100)
    for _ in range(40):
        monitor._update_if_due()
    first, *later = [b - a for a, b in itertools.pairwise(updates)]
    assert first < 5  # the first computation does work that is done once: no pause after it
    assert len(later) >= 2
    assert all(10 < pause < 15 for pause in later)


def test_the_result_does_not_depend_on_looks_on_the_way():
    """The agreement of all draws, read in one piece and in several."""
    draws = torch.randn(60, 2, 1, generator=torch.Generator().manual_seed(0))
    model = model_of(LIKELIHOODS["plain"])
    one, _ = watched(model, [draws])
    many, _ = watched(model, draws.split(17))
    assert one.last() == many.last()
