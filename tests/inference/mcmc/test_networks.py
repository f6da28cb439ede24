"""HMC and NUTS on networks whose posterior is known: function means and sds at nine points, seed 0.

Tolerance: 5 Monte Carlo standard errors of each (ArviZ, of the mean and of the sd), for at least 1,000 effective draws
and chains that agree (R-hat below 1.02). The oracles' own error is 1e-6, as tests here show.
"""

import arviz
import numpy as np
import pyro
import pytest
import torch
import xarray as xr

from posterity.inference import HMC, NUTS, infer
from posterity.inference.diagnostics import function_convergence
from posterity.inference.program.likelihood import likelihood_over_draws
from tests.inference.mcmc.network_oracles import AT, LastLayer, OneUnit, linear_posterior

ERRORS = 5.0
EFFECTIVE, RHAT = 1000, 1.02
LENGTH = {"chains": 64, "warmup": 300, "draws": 200, "target_accept": 0.95, "progress": False}
SAMPLERS = {"HMC": HMC(**LENGTH), "NUTS": NUTS(**LENGTH)}
ORACLES = {"one unit": OneUnit.example(), "last layer": LastLayer.example()}


def standard_errors(values, mean, sd):
    """The largest distance of means and of sds from the truth, in their Monte Carlo standard errors."""
    draws = xr.Dataset({"f": (("chain", "draw", "point"), values.numpy())})
    pooled = draws["f"].stack(sample=("chain", "draw"))
    of_mean = np.abs(pooled.mean("sample") - mean.numpy()) / arviz.mcse(draws, method="mean")["f"]
    of_sd = np.abs(pooled.std("sample") - sd.numpy()) / arviz.mcse(draws, method="sd")["f"]
    return float(of_mean.max()), float(of_sd.max())


@pytest.fixture(scope="module", params=SAMPLERS)
def sampled(request):
    """Draws of every oracle's posterior by one sampler."""
    torch.manual_seed(0)
    found = {}
    for name, oracle in ORACLES.items():
        found[name] = infer(oracle.model, oracle.x, oracle.y, method=SAMPLERS[request.param], seed=0)
        assert found[name].attrs["engine"] == "lanes"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLES)
def test_functions_have_the_mean_and_sd_of_the_exact_posterior(sampled, name):
    values = sampled[name].function_draws(AT)
    agreement = function_convergence(values)
    assert agreement.ess_bulk.min() >= EFFECTIVE
    assert agreement.rhat.max() < RHAT
    assert max(standard_errors(values, *ORACLES[name].function_moments())) < ERRORS


@pytest.mark.slow
def test_chains_find_both_signs_of_the_unit(sampled):
    """(w, b, v) and -(w, b, v) are one network, and starts from the prior have no preference: 5 standard errors."""
    positive = (sampled["one unit"].draws["net.hidden1.weight"].flatten(2) > 0).double().mean((1, 2))
    assert abs(positive.mean() - 0.5) < 5 * 0.5 / len(positive) ** 0.5


# The oracles themselves


def test_the_grid_is_fine_and_wide_enough():
    """Twice as many points, two prior sd further, or half of the plane: the same to 1e-6, where an sd is 0.4."""
    oracle = OneUnit.example()
    found = oracle.function_moments()
    for settings in ({"points": 321}, {"points": 215, "reach": 8.0}, {"positive_w": True}):
        for one, two in zip(found, oracle.function_moments(**settings), strict=True):
            torch.testing.assert_close(one, two, rtol=0.0, atol=1e-6)


def test_the_linear_posterior_is_that_of_a_gaussian_process():
    """The same model as a joint normal of y and f: evidence, mean and covariance without inverting in weight space."""
    generator = torch.Generator().manual_seed(0)
    features, y = (torch.randn(*shape, generator=generator, dtype=torch.double) for shape in ((7, 3), (7,)))
    prior_sd, noise = torch.tensor([0.5, 1.0, 2.0], dtype=torch.double), 0.4
    mean, covariance, evidence = linear_posterior(features, y, prior_sd, noise)
    kernel = features @ torch.diag(prior_sd**2)
    total = kernel @ features.T + noise**2 * torch.eye(7)
    torch.testing.assert_close(evidence, torch.distributions.MultivariateNormal(torch.zeros_like(y), total).log_prob(y))
    torch.testing.assert_close(mean, kernel.T @ torch.linalg.solve(total, y))
    torch.testing.assert_close(covariance, torch.diag(prior_sd**2) - kernel.T @ torch.linalg.solve(total, kernel))


@pytest.mark.parametrize("name", ORACLES)
def test_the_oracle_is_of_the_model_that_is_sampled(name):
    """Importance sampling with the prior, through the model: means to 5 standard errors of 100,000 draws."""
    oracle, size = ORACLES[name], 100_000
    sites = pyro.poutine.trace(oracle.model).get_trace(oracle.x).nodes
    latents = {site: node["fn"] for site, node in sites.items() if site.startswith("net.") and node["type"] == "sample"}
    draws = {site: fn.expand(fn.batch_shape).sample((size,)) for site, fn in latents.items()}
    likelihood, _ = likelihood_over_draws(oracle.model, (oracle.x,), draws, "y")
    weight = torch.softmax(likelihood.log_prob(oracle.y).sum(-1), 0)
    values = likelihood_over_draws(oracle.model, (AT,), draws, "y")[0].mean
    mean = weight @ values
    error = (weight**2 @ (values - mean) ** 2).sqrt()
    assert 1 / (weight**2).sum() > 100, 1 / (weight**2).sum()
    assert ((mean - oracle.function_moments()[0]) / error).abs().max() < ERRORS


def test_the_bars_pass_exact_draws_and_notice_five_per_cent():
    """Independent draws of the last layer's closed form pass; 5 % more spread, or a tenth of an sd beside, do not."""
    oracle = ORACLES["last layer"]
    mean, covariance = oracle.weight_moments()
    exact = torch.distributions.MultivariateNormal(mean, covariance)
    weights = exact.sample((64, 200))
    truth = oracle.function_moments()
    values = weights @ oracle.features(AT).T
    assert max(standard_errors(values, *truth)) < ERRORS
    assert standard_errors(truth[0] + 1.05 * (values - truth[0]), *truth)[1] > ERRORS
    assert standard_errors(values + 0.1 * truth[1], *truth)[0] > ERRORS
