"""Agreement of chains: on predictions, on the log density, on named sites; and which sites of a model are named."""

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample

from posterity.inference.convergence.elements import site_columns
from posterity.inference.mcmc import agreement as agreement_module
from posterity.inference.mcmc.agreement import ComparedFunctions, agreement
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, mlp
from posterity.models.priors import HierarchicalNormal, Horseshoe

NET = mlp(1, 3, 1, seed=0)
X = torch.linspace(-1, 1, 20)[:, None]
Y = 0.5 * X[:, 0] + 0.1 * torch.cos(20 * X[:, 0])
NONE = np.zeros((4, 100, 0))


def independent(chains=4, draws=100, columns=3):
    return np.random.default_rng(0).normal(size=(chains, draws, columns))


def test_rhat_and_ess_are_the_worst_of_all_functions_by_arviz():
    values = independent()
    values[:, 1:, 1] = 0.9 * values[:, :-1, 1] + 0.4 * values[:, 1:, 1]  # the least effective
    values[2, :, 2] += 1.0  # one chain apart
    found = agreement(values, NONE, [])
    expected = [arviz.rhat(values[..., i], method="rank") for i in range(3)]
    assert found.rhat == pytest.approx(max(expected), rel=1e-6)
    assert found.ess == pytest.approx(min(arviz.ess(values[..., i], method="bulk") for i in range(3)), rel=1e-6)
    assert found.apart
    assert found.predicted
    assert not agreement(independent(), NONE, []).apart


def test_sites_are_named_where_chains_disagree_the_worst_first():
    sites = independent(columns=4)
    sites[0, :, 1] += 1.0
    sites[0, :, 3] += 3.0
    found = agreement(independent(), sites, ["a", "b", "c", "d"])
    assert list(found.sites) == ["d", "b"]
    assert not found.apart


def test_what_cannot_be_compared_is_not_judged():
    """Too few draws, values that are not finite, and values that never vary; nan beside values that can be compared."""
    assert not agreement(independent(draws=3), NONE[:, :3], []).judged
    still = np.zeros((4, 100, 2))
    still[..., 1] = np.nan
    nothing = agreement(still, NONE, [])
    assert (nothing.judged, nothing.predicted, nothing.sites) == (False, False, {})
    assert np.isnan([nothing.rhat, nothing.ess]).all()
    found = agreement(np.concatenate([still, independent(columns=1)], -1), NONE, [])
    assert found.judged
    assert not found.predicted  # the last column is the log density
    assert np.isfinite(found.rhat)


def test_a_mean_is_predicted_or_a_median_where_there_is_none():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Cauchy(w * x, 1.0), obs=y)

    x = torch.linspace(-1, 1, 20)
    args = (x, 2 * x)
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = ComparedFunctions(model, args, inspect(model, args)).predicted({"w": w})
    rows = torch.linspace(0, 19, 16).round().long()
    np.testing.assert_allclose(found, w.numpy()[..., None] * x[rows].numpy(), rtol=1e-6, atol=1e-7)


def classes(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Categorical(logits=x * w), obs=y)


def whole(x, y=None):
    """A plate of a fixed size: it cannot be run on some of its rows."""
    z = pyro.sample("z", dist.Normal(torch.zeros(20), 1.0).to_event(1))
    with pyro.plate("obs", 20):
        return pyro.sample("y", dist.Normal(z * x[:, 0], 1.0), obs=y)


def test_classes_are_watched_by_their_probabilities_and_not_by_the_density_alone():
    draws = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    y = (X[:, 0] > 0).long()
    found = ComparedFunctions(classes, (X, y), inspect(classes, (X, y)))
    values = found.predicted({"w": draws})
    rows = torch.linspace(0, 19, 16).round().long()
    expected = torch.softmax(X[rows] * draws[:, :, None], -1).flatten(2)
    np.testing.assert_allclose(values, expected[..., torch.linspace(0, 47, 16).round().long()], rtol=1e-5)
    assert found.judge({"w": draws}, draws[..., 0]).predicted
    apart = draws.clone()
    apart[1, :, 2] += 20.0
    assert found.judge({"w": apart}, draws[..., 0]).apart


def test_a_model_that_cannot_be_run_on_some_rows_is_run_on_all(monkeypatch):
    monkeypatch.setattr(agreement_module, "LARGEST", 2 * 20 * 7)  # of each chain 7 draws at a time
    draws = torch.randn(2, 50, 20, generator=torch.Generator().manual_seed(0))
    found = ComparedFunctions(whole, (X, Y), inspect(whole, (X, Y)))
    rows = torch.linspace(0, 19, 16).round().long()
    np.testing.assert_allclose(found.predicted({"z": draws}), (draws * X[:, 0])[..., rows], rtol=1e-5)


def squared(x, y=None):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(m**2 + x[:, 0], 1.0), obs=y)


def test_mirrored_modes_are_found_at_the_site_alone():
    """Chains at +2 and -2 predict the same. 400 independent draws: R-hat below 1.05 where chains agree; seed 0."""
    m = 2 + 0.1 * torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0])[:, None]
    functions = ComparedFunctions(squared, (X, Y), inspect(squared, (X, Y)))
    found = functions.judge({"m": sign * m}, -(m**2))
    assert found.rhat < 1.05
    assert not found.apart
    assert list(found.sites) == ["m"]
    assert found.sites["m"] > 1.5
    assert not functions.judge({"m": m}, -(m**2)).sites


def switching(x, y=None):
    with pyro.plate("components", 2):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    w = pyro.sample("w", dist.Beta(2.0, 2.0))
    with pyro.plate("obs", len(x)):
        parts = dist.Categorical(torch.stack([w, 1 - w]))
        return pyro.sample("y", dist.MixtureSameFamily(parts, dist.Normal(mu, 0.5)), obs=y)


def test_switched_labels_are_found_at_each_of_their_sites():
    generator = torch.Generator().manual_seed(0)
    mu = torch.tensor([-1.0, 2.0]) + 0.05 * torch.randn(4, 100, 2, generator=generator)
    w = 0.3 + 0.02 * torch.randn(4, 100, generator=generator)
    density = w + mu.sum(-1)
    mu[2], w[2] = mu[2].flip(-1), 1 - w[2]
    found = ComparedFunctions(switching, (X, Y), inspect(switching, (X, Y))).judge({"mu": mu, "w": w}, density)
    assert found.predicted
    assert not found.apart
    assert set(found.sites) == {"mu[0]", "mu[1]", "w"}


def by_hand(x, y=None):
    """A network without `bayesian`: its vectors are permuted with its matrices."""
    w1 = pyro.sample("w1", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
    b1 = pyro.sample("b1", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    w2 = pyro.sample("w2", dist.Normal(torch.zeros(3, 1), 1.0).to_event(2))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal((torch.tanh(x @ w1 + b1) @ w2)[:, 0], sigma), obs=y)


def topics(x, y=None):
    """Simplices, and effects in two plates, which are no matrix of weights."""
    pyro.sample("words", dist.Dirichlet(torch.ones(2, 3)).to_event(1))
    pyro.sample("factor", dist.LKJCholesky(3, 1.0))
    with pyro.plate("rows", 2, dim=-1), pyro.plate("columns", 3, dim=-2):
        pyro.sample("effect", dist.Normal(0.0, 1.0))
    pyro.sample("scale", dist.HalfNormal(torch.ones(4)).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)


def networks(x, y=None):
    f = bayesian("net", NET, {"": Horseshoe(), "output": HierarchicalNormal()})(x)
    slope = pyro.sample("slope", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(f[:, 0] + slope[0] * x[:, 0], 1.0), obs=y)


class Sampled(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = PyroModule[torch.nn.Linear](1, 3)
        self.layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3, 1]).to_event(2))
        self.layer.bias = PyroSample(dist.Normal(0.0, 1.0).expand([3]).to_event(1))

    def forward(self, x, y=None):
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        f = self.layer(x).sum(-1)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(f, sigma), obs=y)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (switching, {"mu", "w"}),
        (by_hand, {"sigma"}),
        (topics, {"words", "factor", "effect", "scale"}),
        (networks, {"slope"}),
        (Sampled(), {"sigma"}),
    ],
    ids=["mixture", "by hand", "topics", "bayesian", "PyroModule"],
)
def test_weights_of_a_network_are_told_from_named_sites(model, named):
    program = inspect(model, (X, Y))
    assert set(program.latents) - set(program.weights) == named


def test_elements_of_large_sites_are_spread_evenly():
    values, labels = site_columns({"z": torch.arange(300.0).expand(2, 5, 300)}, ["z"])
    assert values.shape == (2, 5, 64)
    assert (labels[0], labels[-1]) == ("z[0]", "z[299]")
    assert values[0, 0, 1] == float(labels[1][2:-1])
    values, labels = site_columns({"a": torch.zeros(2, 5), "b": torch.zeros(2, 5, 1, 2)}, ["a", "b"])
    assert labels == ["a", "b[0, 0]", "b[0, 1]"]
    assert site_columns({"a": torch.zeros(2, 5)}, [])[0].shape == (2, 5, 0)
