"""Laplace's evidence against closed forms: exact for a linear model, and asymptotically for others."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.data import Standardization, sinc_curve
from posterity.inference import SVI, Ensemble, infer
from posterity.inference.engine.density import Density
from posterity.inference.laplace import laplace_evidence
from posterity.models import GaussianProcess, bayesian, bayesian_regression, mlp, point, priors
from posterity.models.kernels import feature_kernel

X = torch.linspace(-2, 2, 15, dtype=torch.double)[:, None]
Y = torch.sin(2 * X[:, 0])


LAYER = nn.Linear(2, 1).double()


def linear(x, y=None):
    features = torch.cat([x, x**3], 1)
    layer = bayesian("layer", LAYER, priors.Normal(scale=0.8, fan_in=False, bias_scale=0.5))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(layer(features)[:, 0], 0.3), obs=y)


@pytest.mark.parametrize("chunk", [1, 256])
def test_a_linear_model_has_the_exact_evidence(chunk):
    """Also at members that have not quite arrived: the log joint is quadratic."""
    kernel = feature_kernel(lambda x: torch.cat([x, x**3], 1), scale=0.8, bias_scale=0.5)
    exact = GaussianProcess(kernel, noise=0.3).condition(X, Y).log_evidence
    posterior = infer(linear, X, Y, method=Ensemble(members=3, steps=300, behind="keep", progress=False))
    found = laplace_evidence(posterior, X, Y, chunk=chunk)
    assert found["log_evidence"].values == pytest.approx([exact] * 3, abs=1e-8)
    assert (found["to_gain"] >= 0).all()


def test_the_space_of_the_expansion_is_unconstrained():
    """For a gamma posterior, the error of Laplace in the log of the rate is that of Stirling, 1/(12 shape)."""

    def model(y=None):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0).double(), torch.tensor(1.0).double()))
        with pyro.plate("obs", 60):
            return pyro.sample("y", dist.Exponential(rate).expand([60]), obs=y)

    y = torch.linspace(0.1, 2.0, 60, dtype=torch.double)
    shape, rate = 2 + 60, 1 + float(y.sum())
    exact = math.lgamma(shape) - shape * math.log(rate) - math.lgamma(2)
    found = laplace_evidence(infer(model, y, method=Ensemble(members=1, progress=False)), y)
    assert float(found["log_evidence"][0]) == pytest.approx(exact - 1 / (12 * shape), abs=1e-4)
    assert float(found["to_gain"][0]) == pytest.approx(
        0.5 / shape, rel=0.1
    )  # the mode of the rate is beside that of its log


@pytest.mark.parametrize("factor", [0.1, 10.0, 1e6, 1e12])
def test_a_draw_far_from_the_mode_gives_the_evidence_of_the_mode_or_nan(factor):
    """For a gamma posterior, whose log joint in the log of the rate falls exponentially on one side."""

    def model(y=None):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0).double(), torch.tensor(1.0).double()))
        with pyro.plate("obs", 60):
            return pyro.sample("y", dist.Exponential(rate).expand([60]), obs=y)

    y = torch.linspace(0.1, 2.0, 60, dtype=torch.double)
    posterior = infer(model, y, method=Ensemble(members=1, progress=False))
    near = float(laplace_evidence(posterior, y)["log_evidence"][0])
    far = type(posterior)(posterior.model, posterior.program, {"rate": factor * posterior.draws["rate"]})
    found = float(laplace_evidence(far, y)["log_evidence"][0])
    assert math.isnan(found) or found == pytest.approx(near, abs=2e-3)
    assert math.isnan(found) == (factor > 1e10)  # each step down the exponential side is one unit of the logarithm


def test_a_saddle_is_no_mode():
    """A network with all weights zero: the log joint grows in several directions."""

    module = mlp(1, 3, 1).double()

    def model(x, y=None):
        net = bayesian("net", module)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(net(x)[:, 0], 0.01), obs=y)

    posterior = infer(model, X, Y, method=Ensemble(members=2, steps=2, behind="keep", progress=False))
    zero = {name: torch.zeros_like(value) for name, value in posterior.draws.items()}
    at_zero = type(posterior)(posterior.model, posterior.program, zero)
    assert laplace_evidence(at_zero, X, Y)["log_evidence"].isnull().all()


@pytest.mark.slow
def test_a_ready_pair_in_float32():
    """Members of a pair whose noise has a Python number as floor; against the Hessian by finite differences."""
    data = sinc_curve(30, seed=0)
    pair = bayesian_regression(Standardization.fit(data), hidden=(3,), noise="constant")
    posterior = infer(pair, data.x, data.y, method=Ensemble(members=3, steps=1500, behind="keep", progress=False))
    found = laplace_evidence(posterior, data.x, data.y)
    density = Density(posterior.model, (data.x.double(), data.y.double()))
    at = density.unconstrain({name: value[0].double() for name, value in posterior.draws.items()})
    gradient = torch.func.grad(density)

    def hessian(position):
        shifts = 1e-4 * torch.eye(len(position), dtype=torch.double)
        return torch.stack([(gradient(position + d) - gradient(position - d)) / 2e-4 for d in shifts])

    for k, position in enumerate(at):
        for _ in range(20):
            position = position - torch.linalg.solve(hessian(position), gradient(position))
        curvature = torch.linalg.slogdet(-hessian(position))
        expected = float(density(position) - 0.5 * curvature.logabsdet) + 0.5 * len(position) * math.log(2 * math.pi)
        assert curvature.sign == 1
        assert float(found["log_evidence"][k]) == pytest.approx(expected, abs=0.02)


def test_bad_input_is_named():
    posterior = infer(linear, X, Y, method=SVI(guide="map", steps=10, progress=False))
    with pytest.raises(ValueError, match="chunk"):
        laplace_evidence(posterior, X, Y, chunk=0)
    with pytest.raises(
        ValueError, match=r"expected y, and a posterior with draws of all latent sites, got none of \['y'\]"
    ):
        laplace_evidence(posterior, X)

    net = mlp(1, 1).double()

    def trained(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope + point("net", net)(x)[:, 0], 1.0), obs=y)

    with pytest.raises(ValueError, match="expected a model without trained parameters"):
        laplace_evidence(infer(trained, X, Y, method=Ensemble(members=1, steps=5, progress=False)), X, Y)
