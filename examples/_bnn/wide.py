"""Networks whose posterior is known: frozen features exactly, wide networks up to their width."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _report import save_arrays
from torch import Tensor, nn
from torch.distributions import Normal

from _bnn.curves import CURVES, LENGTH_SCALE
from _bnn.methods import convergence, sampler
from _bnn.settings import NOISE_OF_POINTS, POINTS_OF_NOISES, Settings
from posterity.inference import infer
from posterity.models import GaussianProcess, bayesian, mlp, priors
from posterity.models.kernels import Kernel, feature_kernel, network_kernel, squared_exponential

TITLES = {
    "gp": "cosine units: the Gaussian process\nthat drew the curve",
    "erf": "erf units: their wide limit",
    "relu": "ReLU units: their wide limit",
    "features": "frozen features:\nBayesian linear regression",
}
# Scale of the first layer, whose inputs are not standardised; its biases have four times this scale.
SLOPES = {"erf": 0.5, "relu": 0.15, "features": 1.0}


@dataclass(frozen=True)
class Case:
    """A network, its prior and the kernel of the exact posterior; ``frozen`` features are not sampled."""

    net: nn.Module
    prior: Any
    kernel: Kernel
    frozen: Callable[[Tensor], Tensor] | None = None


def case(name: str, width: int, seed: int) -> Case:
    output = priors.Normal(scale=2**0.5, bias_scale=0.1)
    if name == "gp":  # cosines of unit amplitude and random phase: variance 1/2 each, so 2 makes 1
        prior = {"hidden1": priors.Normal(scale=1 / LENGTH_SCALE, bias_scale=4.0), "output": output}
        return Case(
            mlp(1, width, 1, activation="cos", seed=seed), prior, _plus(squared_exponential(LENGTH_SCALE), 0.01)
        )
    slope = SLOPES[name]
    prior = {"hidden1": priors.Normal(scale=slope, bias_scale=4 * slope), "output": output}
    if name == "features":
        features = nn.Sequential(nn.Linear(1, 30), nn.Tanh())
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value, scale in zip(features.parameters(), (slope, 4 * slope), strict=True):
                value.copy_(scale * torch.randn(value.shape, generator=drawn))
        layer = priors.Normal(scale=0.5, fan_in=False, bias_scale=0.5)
        features = features.requires_grad_(False)
        kernel = feature_kernel(lambda x: features(x.float()).double(), scale=0.5, bias_scale=0.5)
        return Case(nn.Linear(30, 1), layer, kernel, features)
    return Case(mlp(1, width, 1, activation=name, seed=seed), prior, network_kernel(name, prior=prior))


def _plus(kernel: Kernel, constant: float) -> Kernel:
    return lambda x, z: kernel(x, z) + constant


def data_of(this: Case, drawn: bool, grid: Tensor, seed: int) -> dict[str, Tensor]:
    """x (N, 1), y (N,) and the truth on ``grid``: a function ``drawn`` from the kernel, or the curve ``gp``."""
    data = CURVES["gp"].data(POINTS_OF_NOISES, NOISE_OF_POINTS, seed)
    if not drawn:
        return {"x": data.x, "y": data.y, "truth": data.oracle(grid).mean}  # type: ignore[misc]
    both = torch.cat([data.x, grid]).double()
    covariance = this.kernel(both, both) + 1e-8 * torch.eye(len(both), dtype=torch.double)
    generator = torch.Generator().manual_seed(seed)
    function = (torch.linalg.cholesky(covariance) @ torch.randn(len(both), generator=generator).double()).float()
    noise = NOISE_OF_POINTS * torch.randn(len(data), generator=generator)
    return {"x": data.x, "y": function[: len(data)] + noise, "truth": function[len(data) :]}


def compare_with_exact(name: str, settings: Settings, out: Path) -> dict[str, float]:
    """Means and standard deviations of the function on a grid, by HMC and in closed form; the noise is known.

    For erf and ReLU the data are drawn from the wide limit, so that the prior is right.
    """
    torch.set_num_threads(1)
    this = case(name, settings.width, settings.seed)
    grid = CURVES["gp"].grid()[::3]
    data = data_of(this, name in ("erf", "relu"), grid, settings.seed)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        network = bayesian("net", this.net, this.prior)
        mean = network(x if this.frozen is None else this.frozen(x))[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, NOISE_OF_POINTS), obs=y)

    method = sampler(settings, POINTS_OF_NOISES, draws=settings.wide_draws, target_accept=0.95)
    posterior = infer(model, data["x"], data["y"], method=method, seed=settings.seed)
    values = posterior.function_draws(grid).flatten(0, 1).double()
    exact = GaussianProcess(this.kernel, NOISE_OF_POINTS).condition(data["x"], data["y"]).function(grid.double())
    _write(out / "wide" / f"{name}.npz", data, grid, values, exact)
    shift = (values.mean(0) - exact.mean) / exact.stddev
    ratio = values.std(0) / exact.stddev
    return {
        "mean_rms": float(shift.square().mean().sqrt()),
        "mean_max": float(shift.abs().max()),
        "sd_ratio": float(ratio.mean()),
        "sd_ratio_min": float(ratio.min()),
        "sd_ratio_max": float(ratio.max()),
        **convergence(posterior, grid),
    }


def _write(path: Path, data: dict[str, Tensor], grid: Tensor, values: Tensor, exact: Normal) -> None:
    save_arrays(
        path,
        x=data["x"][:, 0],
        y=data["y"],
        truth=data["truth"],
        grid=grid[:, 0],
        mean=values.mean(0),
        sd=values.std(0),
        exact_mean=exact.mean,
        exact_sd=exact.stddev,
    )
