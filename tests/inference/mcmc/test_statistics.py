"""The statistics of the draws of HMC and NUTS: names, shapes, and the relations between them."""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import infer
from tests.inference.mcmc.cases import FAMILIES, X, Y, line

NAMES = {"lp", "energy", "n_steps", "acceptance_rate", "step_size", "diverging"}
SETTINGS = {"chains": 4, "warmup": 100, "draws": 60, "engine": "replay", "threads": 1, "progress": False}


@pytest.fixture(scope="module", params=FAMILIES)
def sampled(request):
    torch.manual_seed(0)
    return request.param, infer(line, X, Y, method=FAMILIES[request.param](**SETTINGS), seed=0)


def test_statistics_have_their_names_and_shapes(sampled):
    name, posterior = sampled
    stats = posterior.sample_stats
    assert set(stats) == NAMES | ({"tree_depth"} if name == "NUTS" else set())
    assert all(value.shape == (4, 60) for value in stats.values())
    assert stats["diverging"].dtype == torch.bool
    assert stats["n_steps"].dtype == torch.long
    assert ((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1)).all()
    if name == "NUTS":
        assert (stats["n_steps"] < 2 ** stats["tree_depth"]).all()
        assert (stats["n_steps"] >= 2 ** (stats["tree_depth"] - 1)).all()
    attrs = posterior.attrs
    assert attrs["method"] == name
    assert attrs["tier"] == "replay"
    assert 0 < attrs["warmup_gradients"] < attrs["gradients"]
    assert 0 < attrs["warmup_seconds"] < attrs["seconds"]


def test_the_log_density_is_the_joint_of_the_draws(sampled):
    _, posterior = sampled
    w, sigma = posterior.draws["w"], posterior.draws["sigma"]
    expected = dist.Normal(0.0, 1.0).log_prob(w) + dist.LogNormal(-1.0, 0.5).log_prob(sigma) + sigma.log()
    expected = expected + dist.Normal(w[..., None] * X[:, 0], sigma[..., None]).log_prob(Y).sum(-1)
    torch.testing.assert_close(posterior.sample_stats["lp"].float(), expected, rtol=1e-4, atol=1e-3)


def test_the_energy_is_kinetic_and_potential(sampled):
    """The momentum is as new at every draw: half a chi squared of 2, mean 1 and never negative; 5 standard errors."""
    _, posterior = sampled
    kinetic = (posterior.sample_stats["energy"] + posterior.sample_stats["lp"]).double().numpy()
    assert (kinetic > 0).all()
    assert abs(kinetic.mean() - 1.0) < 5 * az.mcse(kinetic)


# ArviZ 0.23 calls a function of matplotlib 3.11 in its old way.
@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")
def test_arviz_reads_everything(sampled):
    _, posterior = sampled
    data = posterior.to_arviz(X, Y)
    assert np.isfinite(az.summary(data)["r_hat"].astype(float)).all()
    assert (az.bfmi(data) > 0.3).all()
    az.plot_energy(data)
    plt.close("all")
