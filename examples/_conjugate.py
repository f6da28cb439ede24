"""Samplers and a guide against the closed-form posterior of Bayesian linear regression."""

from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from posterity.inference import HMC, NUTS, SVI, Posterior, infer
from posterity.models import bayesian, priors

POINTS, FEATURES, NOISE = 60, 4, 0.5


def closed_form(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of weights and intercept under a standard normal prior and known noise.

    Precision A = I + Z'Z / noise², mean A^-1 Z'y / noise² (Bishop 2006, equations 3.53 and 3.54).
    """
    z = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    covariance = torch.linalg.inv(torch.eye(z.shape[1]).to(z) + z.T @ z / NOISE**2)
    return covariance @ z.T @ y / NOISE**2, covariance.diagonal().sqrt()


def conjugate_metrics(seed: int, quick: bool) -> dict[str, float]:
    """Largest error of the samplers' means in standard errors; ratios of all standard deviations to the exact ones."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(FEATURES) + 0.4 * torch.ones(FEATURES, FEATURES)  # correlated inputs give correlated weights
    x = (torch.randn(POINTS, FEATURES, generator=generator) @ mixing).double()
    y = x @ torch.tensor([1.0, -0.5, 0.25, 0.0]).double() + 0.3
    y = y + NOISE * torch.randn(POINTS, generator=generator).double()
    layer = nn.Linear(FEATURES, 1).double()

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = bayesian("linear", layer, priors.Normal(fan_in=False))(x)[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, NOISE), obs=y)

    mean, sd = closed_form(x, y)
    length: dict[str, Any] = {"chains": 16, "warmup": 200, "draws": 100 if quick else 500, "threads": 1}
    metrics: dict[str, float] = {}
    for name, sampler in {"nuts": NUTS(**length), "hmc": HMC(**length)}.items():
        draws = weights(infer(model, x, y, method=sampler, seed=seed))
        metrics |= {f"conjugate.{name}.{key}": value for key, value in sampler_errors(draws, mean, sd).items()}
    method = SVI(guide="full_rank", steps=1500 if quick else 5000, learning_rate=0.02, particles=4, draws=20_000)
    svi = weights(infer(model, x, y, method=method, seed=seed))[0]
    ratio = svi.std(0) / sd
    return metrics | {
        "conjugate.svi_fullrank.sd_ratio_min": float(ratio.min()),
        "conjugate.svi_fullrank.sd_ratio_max": float(ratio.max()),
        "conjugate.svi_fullrank.mean_error_max": float(((svi.mean(0) - mean).abs() / sd).max()),
    }


def sampler_errors(draws: Tensor, mean: Tensor, sd: Tensor) -> dict[str, float]:
    """The worst values over the coefficients of draws (chain, draw, coefficient), given the exact mean and sd."""
    columns = np.moveaxis(draws.numpy(), -1, 0)
    error = np.array([float(az.mcse(column)) for column in columns])
    ratio = draws.flatten(0, 1).std(0) / sd
    return {
        "max_z": float((np.abs((draws.mean((0, 1)) - mean).numpy()) / error).max()),
        "ess_min": min(float(az.ess(column)) for column in columns),
        "rhat_max": max(float(az.rhat(column)) for column in columns),
        "sd_ratio_min": float(ratio.min()),
        "sd_ratio_max": float(ratio.max()),
    }


def weights(posterior: Posterior) -> Tensor:
    """Weights and intercept, shape (chain, draw, FEATURES + 1)."""
    return torch.cat([posterior.draws["linear.weight"][..., 0, :], posterior.draws["linear.bias"]], -1)
