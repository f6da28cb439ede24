import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.widths import width_error
from posterity.inference.diagnostics.checks.prior_check import prior_predictive_check
from posterity.models import Pair, bayesian, mlp, priors

GRID = torch.linspace(-3, 3, 40)[:, None]


def network(scale: float = 1.0, activation: str = "relu", noise: float = 0.1):
    net = mlp(1, 30, 1, activation=activation, seed=0)

    def model(x, y=None):
        f = bayesian("net", net, priors.Normal(scale=scale))(x)[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(f, noise), obs=y)

    return model


def line(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=y)


def test_prior_of_a_one_layer_network_has_the_closed_form():
    """Of ReLU units, Var f(x) = 1 + (1 + x²)/2, and the covariance is the arc-cosine kernel (Cho & Saul 2009)."""
    count = 2000
    found = prior_predictive_check(network(), GRID, count=count, seed=1)
    x = GRID[:, 0].double().numpy()
    exact = np.sqrt(1 + 0.5 * (1 + x**2))
    errors = np.array([width_error(found.f.values[:, place]) for place in range(len(x))])
    assert np.abs((found.sd.values - exact) / errors).max() < 4
    assert np.abs(found["mean"].values * np.sqrt(count) / exact).max() < 4
    inputs = np.stack([np.ones_like(x), x])
    length = np.sqrt(1 + x**2)
    angle = np.arccos(np.clip(inputs.T @ inputs / np.outer(length, length), -1, 1))
    kernel = 1 + np.outer(length, length) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    products = found.f.values[:, :1] * found.f.values
    error = products.std(0) / np.sqrt(count)
    assert np.abs((products.mean(0) - kernel[0]) / error).max() < 4
    # A prior that is not divided by the fan-in would be sqrt(30) times as wide.
    assert exact[0] * np.sqrt(30) - found.sd.values[0] > 20 * errors[0]


def test_length_scale_of_a_gaussian_process():
    """Random Fourier features of a squared-exponential kernel of length 0.5, by Rice's formula; four s.e."""
    x = torch.linspace(-5, 5, 400)[torch.randperm(400)][:, None]

    def model(x, y=None):
        frequency = pyro.sample("frequency", dist.Normal(torch.zeros(200), 2.0).to_event(1))
        phase = pyro.sample("phase", dist.Uniform(torch.zeros(200), 2 * math.pi).to_event(1))
        weight = pyro.sample("weight", dist.Normal(torch.zeros(200), math.sqrt(2 / 200)).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(torch.cos(x * frequency + phase) @ weight, 0.1), obs=y)

    found = prior_predictive_check(model, x, count=600, seed=2)
    crossings = found.crossings.values
    assert abs(crossings.mean() - 10 / (math.pi * 0.5)) < 4 * crossings.std() / np.sqrt(600)
    assert float(found.length_scale) == pytest.approx(10 / (math.pi * crossings.mean()))
    np.testing.assert_allclose(found.x, x[:, 0])


def test_shares_beyond_what_is_plausible():
    """y ~ N(0, 4 x² + 1), and a line leaves [-3, 3] where its slope is above 1 on a grid to 3."""
    count = 3000
    found = prior_predictive_check(line, GRID, count=count, seed=3, plausible=(-3.0, 3.0))
    exact = 2 * stats.norm.sf(3 / np.sqrt(4 * GRID[:, 0].numpy() ** 2 + 1))
    assert np.abs((found.beyond - exact) / np.sqrt(exact * (1 - exact) / count)).max() < 4
    leave = 2 * stats.norm.sf(0.5)
    assert float(found.f_beyond) == pytest.approx(leave, abs=4 * math.sqrt(leave * (1 - leave) / count))
    assert set(np.unique(found.crossings)) <= {1}
    assert "62 % of the curves" in found.finding or "61 % of the curves" in found.finding


def test_finding_says_what_is_wrong():
    right, wide = (
        prior_predictive_check(network(scale), GRID, count=100, plausible=(-5.0, 5.0)).finding for scale in (1.0, 8.0)
    )
    assert "too" not in right
    assert "far too wide" in wide
    narrow = prior_predictive_check(network(0.02, noise=0.01), GRID, count=100, plausible=(-5.0, 5.0)).finding
    assert "too narrow" in narrow


def test_shapes_of_several_inputs_targets_and_classes(tmp_path):
    net = mlp(2, 5, 3, seed=0)

    def targets(x, y=None):
        f = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(f, 0.1).to_event(1), obs=y)

    def classes(x, y=None):
        f = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Categorical(logits=f), obs=y)

    x = torch.zeros(7, 2)
    several = prior_predictive_check(targets, x, count=20, plausible=(-1.0, 1.0))
    assert (several.f.dims, several.beyond.dims) == (("sample", "obs", "target"), ("obs", "target"))
    assert several.y.shape == (20, 7, 3)
    assert "crossings" not in several
    labels = prior_predictive_check(classes, x, count=20)
    np.testing.assert_allclose(labels.f.sum("target"), 1, rtol=1e-5)
    assert labels.y.dims == ("sample", "obs")
    for place, dataset in enumerate((several, labels)):
        dataset.to_netcdf(tmp_path / f"{place}.nc", engine="h5netcdf")


def test_pairs_seeds_and_sites():
    model = network()
    first = prior_predictive_check(model, GRID, count=10, seed=4)
    xr.testing.assert_identical(first, prior_predictive_check(Pair(model, None), GRID, count=10, seed=4))
    assert not first.equals(prior_predictive_check(model, GRID, count=10, seed=5))
    before = torch.random.get_rng_state()
    prior_predictive_check(model, GRID, count=3)
    assert torch.equal(before, torch.random.get_rng_state())

    def two(x, y=None, z=None):
        line(x, y)
        pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1), obs=z)

    assert prior_predictive_check(two, GRID, count=3).attrs["site"] == "z"
    assert prior_predictive_check(two, GRID, count=3, site="y").attrs["site"] == "y"


def test_bad_input_is_refused():
    def improper(x, y=None):
        flat = dist.ImproperUniform(dist.constraints.real, (), ())
        pyro.sample("y", dist.Normal(pyro.sample("a", flat) + x[:, 0], 1.0).to_event(1), obs=y)

    def negative(x, y=None):
        scale = pyro.sample("scale", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x[:, 0], scale).to_event(1), obs=y)

    def cauchy(x, y=None):
        pyro.sample("y", dist.Cauchy(x[:, 0], 1.0).to_event(1), obs=y)

    def single(x, y=None):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    for model, message in (
        (improper, "expected a proper prior, got an error at draw 0"),
        (negative, "expected a proper prior, got an error at draw"),
        (cauchy, "expected finite means of the likelihood at site 'y', got 120 of 120"),
        (single, r"expected y of shape \(40,\) or \(40, targets\) at site 'y', got \(\)"),
        (lambda x: None, r"expected site to be one of \[\], got None"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_predictive_check(model, GRID, count=3)
    for settings, message in (
        ({"count": 1}, "expected count to be a whole number of 2 or more, got 1"),
        (
            {"plausible": (1.0, -1.0)},
            r"expected plausible to be two finite numbers \(low, high\) with low < high, got \(1.0, -1.0\)",
        ),
        ({"site": "z"}, r"expected site to be one of \['slope', 'y'\], got 'z'"),
        ({"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_predictive_check(line, GRID, **settings)
    with pytest.raises(ValueError, match="expected the model's arguments as tensors"):
        prior_predictive_check(line, "x")
    with pytest.raises(ValueError, match=r"expected a model that runs with its arguments, got IndexError.*\(2,\)"):
        prior_predictive_check(line, [1.0, 2.0])
    with pytest.raises(ValueError, match="expected inputs without y, got y for the site"):
        prior_predictive_check(line, GRID, GRID[:, 0])
