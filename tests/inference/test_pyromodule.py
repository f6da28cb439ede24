"""A `PyroModule` with `PyroSample` weights has everything that `bayesian` has."""

import functools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample
from torch import nn

from posterity.inference import HMC, NUTS, SVI, Ensemble, Posterior, infer
from posterity.inference.diagnostics import convergence_report
from posterity.models import bayesian, priors

X = torch.linspace(-2.0, 2.0, 12)[:, None]
Y = torch.sin(2 * X[:, 0])
PLAIN = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
SHORT = {"chains": 2, "warmup": 10, "draws": 6, "threads": 1, "progress": False}
METHODS = {
    "HMC": HMC(**SHORT, max_steps=8, engine="replay"),
    "NUTS": NUTS(**SHORT, max_tree_depth=3, engine="compiled"),
    "SVI": SVI(steps=30, draws=6, progress=False),
    "Ensemble": Ensemble(members=3, steps=30, progress=False),
}


class Network(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Sequential](PyroModule[nn.Linear](1, 4), nn.Tanh(), PyroModule[nn.Linear](4, 1))
        for layer in (self.net[0], self.net[2]):
            layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand(layer.weight.shape).to_event(2))
            layer.bias = PyroSample(dist.Normal(0.0, 1.0).expand(layer.bias.shape).to_event(1))

    def forward(self, x, y=None):
        mean = self.net(x).squeeze(-1)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.3), obs=y)


def network(x, y=None):
    mean = bayesian("net", PLAIN, priors.Normal(scale=1.0))(x).squeeze(-1)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean, 0.3), obs=y)


@functools.cache
def posterior(name, written):
    model = Network() if written == "PyroModule" else network
    return infer(model, X, Y, method=METHODS[name], seed=1)


@pytest.mark.parametrize("name", METHODS)
def test_a_module_has_the_sites_of_bayesian_and_the_functions_of_its_network(name, tmp_path):
    one, two = posterior(name, "PyroModule"), posterior(name, "bayesian")
    names = ["net.0.bias", "net.0.weight", "net.2.bias", "net.2.weight"]
    assert sorted(one.draws) == sorted(two.draws) == names
    assert set(one.program.weights) == set(two.program.weights) == set(names)
    if name in ("HMC", "NUTS"):
        assert one.attrs["engine"] == two.attrs["engine"] == {"HMC": "replay", "NUTS": "lanes"}[name]
    assert one.program.latents == two.program.latents
    assert one.likelihood(X).batch_shape == two.likelihood(X).batch_shape
    # The functions of the draws are those of the plain network with the same weights.
    flat = {site.removeprefix("net."): value.flatten(0, 1) for site, value in one.draws.items()}
    mean = torch.func.vmap(lambda weights: torch.func.functional_call(PLAIN, weights, (X,)).squeeze(-1))(flat)
    torch.testing.assert_close(one.likelihood(X).mean, mean, rtol=1e-4, atol=1e-4)
    expected = dist.Normal(mean, 0.3).log_prob(Y)
    torch.testing.assert_close(one.log_likelihood(X, Y).flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    data = one.to_arviz(X, Y, log_prior=True)
    assert set(data.posterior.data_vars) == set(data.log_prior.data_vars) == set(names)
    np.testing.assert_allclose(data.log_likelihood["y"], one.log_likelihood(X, Y))
    one.save(tmp_path / "saved")
    loaded = Posterior.load(tmp_path / "saved", Network(), X, Y)
    torch.testing.assert_close(loaded.predictive(X[:3]).mean, one.predictive(X[:3]).mean)
    assert "functions" in str(convergence_report(one, X))


@pytest.mark.parametrize("name", ["HMC", "NUTS"])
def test_chains_of_a_module_go_on(name):
    first = posterior(name, "PyroModule")
    assert first.extend(draws=2).num_draws == 8
    assert first.update(X, Y + 1, warmup=5, draws=3).num_draws == 3
