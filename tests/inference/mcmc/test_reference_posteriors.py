"""Six published posteriors by HMC and NUTS: mean, sd, effective draws, and no divergence.

Tolerances: a mean lies within 5 standard errors of ours and the published one's together, and a standard deviation
within 5 % and within 5 of its standard errors. Seed 0. Settings give at least a few thousand effective draws, at which
5 % is twice or more the error of an sd; `tau` of eight schools has kurtosis 9 and gets more of them.
"""

import pyro
import pytest
import torch

from posterity.inference import HMC, NUTS, infer
from posterity.inference.program.sites import inspect
from tests.inference.mcmc.reference_models import NAMES, compare, reference

MEANS = 5.0
SD, SD_ERRORS = 0.05, 5.0
EFFECTIVE = 1000

METHODS = {"HMC": HMC, "NUTS": NUTS}
LENGTH = {"chains": 32, "warmup": 300, "draws": 250}
# A smaller step for the neck of the funnel of mu and tau: 0.8 has a divergence in every few hundred draws there.
LENGTHS = {"eight_schools": {"chains": 64, "warmup": 400, "draws": 600, "target_accept": 0.95}}


def sampler(family, name):
    settings = {**LENGTH, **LENGTHS.get(name, {}), "progress": False}
    return METHODS[family](**settings)


@pytest.mark.slow
@pytest.mark.parametrize("family", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_is_the_published_one(name, family):
    known = reference(name)
    posterior = infer(known.model, *known.args, method=sampler(family, name), seed=0)
    assert posterior.attrs["engine"] == "lanes"
    found = compare(posterior, known)
    assert found["max_z"] < MEANS, found
    assert found["max_sd_ratio_error"] < SD, found
    assert found["max_sd_z"] < SD_ERRORS, found
    assert found["min_ess"] >= EFFECTIVE, found
    assert found["divergences"] == 0, found


@pytest.mark.parametrize("name", ["kidiq", "earnings", "kilpisjarvi"])
def test_both_parametrisations_are_one_posterior(name):
    """Equal log densities at five random points: the Jacobian of a linear map is left out of both, as a constant."""
    known = reference(name)
    for _ in range(5):
        trace = pyro.poutine.trace(known.model).get_trace(*known.args)
        sites = {site: node["value"] for site, node in trace.nodes.items() if "value" in node}
        published = known.parameters({site: sites[site] for site in inspect(known.model, known.args).latents})
        if "beta" not in published:
            published["beta"] = torch.stack([value for name, value in published.items() if name.startswith("beta[")])
        plain = pyro.poutine.trace(pyro.poutine.condition(known.plain, data=published)).get_trace(*known.args)
        torch.testing.assert_close(plain.log_prob_sum(), trace.log_prob_sum(), rtol=1e-8, atol=0.0)
