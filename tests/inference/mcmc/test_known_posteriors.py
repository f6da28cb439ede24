"""The samplers on two simple densities: one that is nan beyond a line, and a correlated normal with known moments."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import infer
from tests.inference.mcmc.cases import COMMON, SAMPLERS, X, Y, every


def cliff(x, y=None):
    """nan beyond w[0] + w[1] = 1.5, as a model may be whose numbers leave their range."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("cliff", torch.where(w.sum() > 1.5, torch.nan, 0.0) * w.sum())
    return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0).expand(y.shape).to_event(1), obs=y)


@every
@pytest.mark.parametrize("engine", ["replay", "compiled"])
def test_a_density_that_is_nan_somewhere_diverges_there_and_is_never_drawn(name, engine):
    changes = {"chains": 8, "warmup": 0, "step_size": 0.4, "draws": 60, "init": {"w": torch.zeros(2)}, "engine": engine}
    posterior = infer(cliff, X, Y, method=SAMPLERS[name](**{**COMMON, **changes}), seed=0)
    assert posterior.draws["w"].isfinite().all()
    assert (posterior.draws["w"].sum(-1) <= 1.5).all()
    assert posterior.sample_stats["lp"].isfinite().all()
    assert posterior.sample_stats["diverging"].any()
    assert not posterior.sample_stats["diverging"].all()
    # And the chains move on after it.
    assert (posterior.draws["w"].diff(dim=1).abs().sum(-1) > 0).double().mean() > 0.3


COVARIANCE = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 4.0]], dtype=torch.double)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)


SPECIAL = {"NUTS": {"max_tree_depth": 8}, "HMC": {"window": 3}, "MCLMC": {"energy_variance": 1e-6}}


def correlated(y=None):
    w = pyro.sample("w", dist.MultivariateNormal(MEAN, COVARIANCE))
    return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0), obs=y)


@every
def test_a_correlated_gaussian_has_its_moments(name):
    """Mean, sd and correlation of 32 x 150 draws, each within 5 standard errors (ArviZ) of at least 1,000; seed 0."""
    changes = {"chains": 32, "warmup": 150, "draws": 150, "engine": "compiled"}
    method = SAMPLERS[name](**{**COMMON, **changes}, **SPECIAL.get(name, {}))
    posterior = infer(correlated, torch.zeros((), dtype=torch.double), method=method, seed=0)
    w = posterior.draws["w"].numpy()
    assert w.dtype == np.float64
    assert not posterior.sample_stats["diverging"].any()
    z = (w - MEAN.numpy()) / COVARIANCE.diagonal().sqrt().numpy()
    for i in range(3):
        assert az.ess(z[..., i]) > 1000
        assert abs(z[..., i].mean()) < 5 * az.mcse(z[..., i])
        assert abs(z[..., i].std() - 1) < 5 * az.mcse(z[..., i], method="sd")
        for j in range(i):
            known = float(COVARIANCE[i, j] / (COVARIANCE[i, i] * COVARIANCE[j, j]).sqrt())
            product = z[..., i] * z[..., j]
            assert abs(product.mean() - known) < 5 * az.mcse(product)
