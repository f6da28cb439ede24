"""Six published posteriors, as Pyro models beside the mean and sd of their 10,000 reference draws.

Models, data and references are posteriordb's (Magnusson, Torgander, Bürkner, Zhang, Carpenter & Vehtari 2025,
AISTATS); the file is ``posterior_references.json`` in the folder that `POSTERITY_DATA` names.

A flat prior is written as Pyro recommends, ``.mask(False)`` on a distribution that a start can be drawn from:
it has no density, and the distribution under the mask only says where chains begin.

Where coefficients of the published parametrisation are correlated (-0.99 and beyond), `Reference.model` samples a
linear map of them, as one would by hand, and `Reference.plain` samples them as published. A linear map has a constant
Jacobian, so that both are the same posterior: exactly so under a flat prior, and by the conditional prior of the
centred intercept under a normal one.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy.stats import kurtosis
from torch import Tensor

Model = Callable[..., Any]
Draws = Mapping[str, Tensor]
REFERENCE_DRAWS = 10_000  # near independent: ten chains thinned until nothing is left of the autocorrelation

NAMES = {
    "eight_schools": "eight_schools-eight_schools_noncentered",
    "kidiq": "kidiq-kidscore_momiq",
    "sblri": "sblri-blr",
    "arK": "arK-arK",
    "earnings": "earnings-logearn_interaction",
    "kilpisjarvi": "kilpisjarvi_mod-kilpisjarvi",
}


@dataclass(frozen=True, eq=False)
class Reference:
    """``infer(model, *args)`` has the posterior whose ``parameters(draws)`` are described by ``published``.

    ``parameters`` takes the draws of either model, (chain, draw, ...) for each site, and returns (chain, draw) for
    each published name. ``published[name]`` holds ``mean``, ``sd``, ``q05``, ``q50``, ``q95``.
    """

    model: Model
    plain: Model
    args: tuple[Tensor, ...]
    parameters: Callable[[Draws], dict[str, Tensor]]
    published: dict[str, dict[str, float]]


def reference(name: str) -> Reference:
    """One of `NAMES`; the test is skipped where the data are not at hand."""
    folder = os.environ.get("POSTERITY_DATA")
    path = Path(folder, "posterior_references.json") if folder else None
    if path is None or not path.exists():
        pytest.skip("POSTERITY_DATA names no folder with posterior_references.json")
    entry = json.loads(path.read_text())[NAMES[name]]
    model, plain, args, parameters = BUILDERS[name](entry["data"])
    return Reference(model, plain, args, parameters, entry["reference"])


def compare(posterior: Any, known: Reference) -> dict[str, float]:
    """`distances` of a posterior from the published one; and ``divergences``: their number."""
    found = {parameter: draws.double().numpy() for parameter, draws in known.parameters(posterior.draws).items()}
    divergences = int(posterior.sample_stats["diverging"].sum())
    return {**distances(found, known.published), "divergences": divergences}


def distances(found: Mapping[str, Any], published: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far draws (chain, draw) of the parameters are from the published posterior, the worst over the parameters.

    - ``max_z``: difference of the means in standard errors, sqrt(sd²/ESS + published sd²/10,000), ESS by ArviZ (bulk);
    - ``max_sd_ratio_error``: |sd / published sd - 1|; ``max_sd_z``: in standard errors of both, ArviZ's for ours and
      sqrt((kurtosis - 1) / 40,000) for the published one;
    - ``min_ess``: ESS (bulk).
    """
    assert set(found) == set(published)
    data = xr.Dataset({p: (("chain", "draw"), draws) for p, draws in found.items()})
    ess, sd_error = arviz.ess(data, method="bulk"), arviz.mcse(data, method="sd")
    z, ratio, sd_z = [], [], []
    for parameter, draws in found.items():
        own = draws.std(ddof=1)
        error = np.sqrt(own**2 / float(ess[parameter]) + published[parameter]["sd"] ** 2 / REFERENCE_DRAWS)
        z.append(abs(draws.mean() - published[parameter]["mean"]) / error)
        ratio.append(abs(own / published[parameter]["sd"] - 1))
        published_error = np.sqrt((kurtosis(draws, axis=None, fisher=False) - 1) / (4 * REFERENCE_DRAWS))
        sd_z.append(ratio[-1] / np.hypot(float(sd_error[parameter]) / own, published_error))
    return {
        "max_z": float(max(z)),
        "max_sd_ratio_error": float(max(ratio)),
        "max_sd_z": float(max(sd_z)),
        "min_ess": min(float(ess[parameter]) for parameter in found),
    }


# The parts of models


def flat(shape: tuple[int, ...], like: Tensor) -> Any:
    return dist.Normal(like.new_zeros(shape), 1.0).to_event(len(shape)).mask(False)


def flat_above_zero(like: Tensor) -> Any:
    return dist.HalfNormal(like.new_ones(())).mask(False)


def columns(prefix: str, values: Tensor) -> dict[str, Tensor]:
    """Stan's names: beta[1], beta[2], ..."""
    return {f"{prefix}[{i + 1}]": values[..., i] for i in range(values.shape[-1])}


def doubles(*values: Any) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value, dtype=torch.double) for value in values)


def orthogonal_map(x: Tensor) -> Tensor:
    """T with (x T)' (x T) = N, so that flat theta = T^-1 beta is uncorrelated given sigma (Stan user's guide, QR)."""
    return len(x) ** 0.5 * torch.linalg.inv(torch.linalg.qr(x).R)


def flat_regression(x: Tensor, noise: Callable[[], Any]) -> tuple[Model, Model, Callable[[Draws], dict[str, Tensor]]]:
    """y ~ N(x beta, sigma) with flat beta: sampled as beta = T theta, and plain."""
    change = orthogonal_map(x)

    def model(x, y=None):
        theta = pyro.sample("theta", flat((x.shape[1],), x))
        beta = pyro.deterministic("beta", change @ theta, event_dim=1)
        sigma = pyro.sample("sigma", noise())
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)

    def plain(x, y=None):
        beta = pyro.sample("beta", flat((x.shape[1],), x))
        sigma = pyro.sample("sigma", noise())
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        beta = draws["beta"] if "beta" in draws else draws["theta"] @ change.T
        return {**columns("beta", beta), "sigma": draws["sigma"]}

    return model, plain, parameters


# The six


def eight_schools(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(sigma, y=None):
        mu = pyro.sample("mu", dist.Normal(sigma.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(sigma.new_tensor(5.0)))
        with pyro.plate("school", len(sigma)):
            raw = pyro.sample("theta_trans", dist.Normal(sigma.new_zeros(()), 1.0))
            theta = pyro.deterministic("theta", mu + tau * raw)
            return pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        theta = draws["mu"][..., None] + draws["tau"][..., None] * draws["theta_trans"]
        return {**columns("theta", theta), "mu": draws["mu"], "tau": draws["tau"]}

    return model, model, doubles(data["sigma"], data["y"]), parameters


def kidiq(data: Mapping[str, Any]) -> tuple[Any, ...]:
    iq, y = doubles(data["mom_iq"], data["kid_score"])
    x = torch.stack([torch.ones_like(iq), iq], -1)
    model, plain, parameters = flat_regression(x, lambda: dist.HalfCauchy(x.new_tensor(2.5)))
    return model, plain, (x, y), parameters


def sblri(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(x, y=None):
        beta = pyro.sample("beta", dist.Normal(x.new_zeros(x.shape[1]), 10.0).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfNormal(x.new_tensor(10.0)))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {**columns("beta", draws["beta"]), "sigma": draws["sigma"]}

    return model, model, doubles(data["X"], data["y"]), parameters


def ar_k(data: Mapping[str, Any]) -> tuple[Any, ...]:
    (series,) = doubles(data["y"])
    order = data["K"]
    lags = torch.stack([series[order - k : len(series) - k] for k in range(1, order + 1)], -1)

    def model(lags, y=None):
        alpha = pyro.sample("alpha", dist.Normal(lags.new_zeros(()), 10.0))
        beta = pyro.sample("beta", dist.Normal(lags.new_zeros(lags.shape[1]), 10.0).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfCauchy(lags.new_tensor(2.5)))
        with pyro.plate("obs", len(lags)):
            return pyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {"alpha": draws["alpha"], **columns("beta", draws["beta"]), "sigma": draws["sigma"]}

    return model, model, (lags, series[order:]), parameters


def earnings(data: Mapping[str, Any]) -> tuple[Any, ...]:
    height, male, earn = doubles(data["height"], data["male"], data["earn"])
    x = torch.stack([torch.ones_like(height), height, male, height * male], -1)
    model, plain, parameters = flat_regression(x, lambda: flat_above_zero(x))
    return model, plain, (x, earn.log()), parameters


def kilpisjarvi(data: Mapping[str, Any]) -> tuple[Any, ...]:
    year, y = doubles(data["x"], data["y"])
    middle = year.mean()
    prior = {name: year.new_tensor(data[name]) for name in ("pmualpha", "psalpha", "pmubeta", "psbeta")}

    def model(year, y=None):
        beta = pyro.sample("beta", dist.Normal(prior["pmubeta"], prior["psbeta"]))
        # alpha + beta middle, whose prior given beta is that of alpha moved along.
        level = pyro.sample("level", dist.Normal(prior["pmualpha"] + beta * middle, prior["psalpha"]))
        pyro.deterministic("alpha", level - beta * middle)
        sigma = pyro.sample("sigma", flat_above_zero(year))
        with pyro.plate("obs", len(year)):
            return pyro.sample("y", dist.Normal(level + beta * (year - middle), sigma), obs=y)

    def plain(year, y=None):
        alpha = pyro.sample("alpha", dist.Normal(prior["pmualpha"], prior["psalpha"]))
        beta = pyro.sample("beta", dist.Normal(prior["pmubeta"], prior["psbeta"]))
        sigma = pyro.sample("sigma", flat_above_zero(year))
        with pyro.plate("obs", len(year)):
            return pyro.sample("y", dist.Normal(alpha + beta * year, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        alpha = draws["alpha"] if "alpha" in draws else draws["level"] - draws["beta"] * middle
        return {"alpha": alpha, "beta": draws["beta"], "sigma": draws["sigma"]}

    return model, plain, (year, y), parameters


BUILDERS: dict[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]] = {
    "eight_schools": eight_schools,
    "kidiq": kidiq,
    "sblri": sblri,
    "arK": ar_k,
    "earnings": earnings,
    "kilpisjarvi": kilpisjarvi,
}
