"""What is compared between truth and draws."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, infer
from posterity.inference.diagnostics.simulation import _fits
from posterity.inference.diagnostics.simulation._refits import FITTED
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.models import bayesian, gaussian, mlp
from posterity.random import child_seeds
from tests.inference.diagnostics.simulation.cases import NOISE, Prior, X, line_model, refits


def test_a_refit_is_the_method_run_alone_and_thinned_evenly():
    simulations = simulate(line_model(), X, count=6, seed=3)
    found = refits()
    assert list(found["quantity"].values) == ["w[0]", "w[1]", "s", "log_likelihood"]
    for i, seed in enumerate(child_seeds(3, 6, FITTED)):
        posterior = infer(line_model(), X, simulations.y[i], method=Prior(), seed=seed)
        w, s = posterior.draws["w"][0, 1::2], posterior.draws["s"][0, 1::2]
        score = dist.Normal(w[:, :1] + w[:, 1:] * X, NOISE * s[:, None]).log_prob(simulations.y[i]).sum(1)
        expected = torch.cat([w, s[:, None], score[:, None]], 1)
        np.testing.assert_allclose(found["draws"][i], expected, rtol=1e-5, atol=1e-5)
        w, s = simulations.latents["w"][i], simulations.latents["s"][i]
        score = dist.Normal(w[0] + w[1] * X, NOISE * s).log_prob(simulations.y[i]).sum()
        np.testing.assert_allclose(found["truth"][i], [*w, s, score], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found["y"], simulations.y)
    assert found["ess"].values.tolist() == [[40.0] * 4] * 6  # independent draws


def test_functions_of_a_network_instead_of_its_weights():
    """The values of the network at x*, for the truth and each draw, and the sites of one number."""
    net = mlp(1, 3, 1, seed=0)

    def model(x, y=None):
        features = bayesian("net", net)(x)
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, s), obs=y)

    x, at = X[:, None], torch.tensor([[-1.0], [2.0]])
    method = SVI(guide="mean_field", steps=3, draws=30, progress=False)
    settings = {"method": method, "count": 2, "draws": 30, "progress": False}
    found = refit(model, x, at=at, **settings)
    assert list(found["quantity"].values) == ["s", "f[0]", "f[1]", "log_likelihood"]
    y = simulate(model, x, count=2).y
    posterior = infer(model, x, y[1], method=method, seed=child_seeds(0, 2, FITTED)[1])
    np.testing.assert_allclose(found["draws"][1, :, 1:3], posterior.function_draws(at)[0], rtol=1e-5, atol=1e-6)
    weights = refit(model, x, sites=["net.hidden1.bias"], **settings)
    expected = [f"net.hidden1.bias[{i}]" for i in range(3)] + ["log_likelihood"]
    assert list(weights["quantity"].values) == expected


def test_quantities_by_name_and_deterministic_sites():
    found = refits(
        test_quantities={"spread": lambda values, y: values["s"] * y.std(), "w0": lambda values, y: values["w"][0]},
        sites=["end", "w"],
        log_likelihood=False,
    )
    assert list(found["quantity"].values) == ["end", "w[0]", "w[1]", "spread", "w0"]
    by_name = found.assign_coords(quantity=found["quantity"])["draws"]
    np.testing.assert_allclose(by_name.sel(quantity="end"), by_name[..., 1] + by_name[..., 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_name.sel(quantity="w0"), by_name.sel(quantity="w[0]"))

    def largest(values, y):
        return values["w"].max()

    assert list(refits(test_quantities=largest)["quantity"].values) == ["largest", "log_likelihood"]


def test_too_many_weights_are_refused_with_what_to_do():
    net = mlp(1, 50, 1, seed=0)

    def model(x, y=None):
        features = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, torch.tensor(1.0)), obs=y)

    with pytest.raises(ValueError, match=r"expected at most 100 test quantities, got 151 .*: give at=x"):
        refit(model, X[:, None], method=Prior(), count=2, progress=False)


def test_a_stuck_chain_is_worth_one_draw_and_a_constant_all():
    values = np.zeros((2, 50, 2))
    assert _fits.judge.__module__.endswith("_quantities")
    from posterity.inference.diagnostics.simulation._quantities import _ess

    assert _ess(values, np.array([0.0, 1.0])).tolist() == [100.0, 1.0]
    assert _ess(values[:, :2], np.array([0.0, 1.0])).tolist() == [2.0, 2.0]
