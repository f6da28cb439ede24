"""Six more posteriors of posteriordb: a Gaussian process, a mixture, regressions, and hierarchical models.

As in `reference_models.py`, each builder takes the data and returns the model, the model as published, the arguments
and the published parameters of the draws. Here both models are the same.
"""

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.inference.mcmc.reference_models import Draws, columns, doubles


def eight_schools_centred(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(sigma, y):
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
        with pyro.plate("school", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            return pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {**columns("theta", draws["theta"]), "mu": draws["mu"], "tau": draws["tau"]}

    return model, model, doubles(data["sigma"], data["y"]), parameters


def gp_regr(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(x, y):
        rho = pyro.sample("rho", dist.Gamma(x.new_tensor(25.0), 4.0))
        alpha = pyro.sample("alpha", dist.HalfNormal(x.new_tensor(2.0)))
        sigma = pyro.sample("sigma", dist.HalfNormal(x.new_tensor(1.0)))
        smooth = alpha**2 * torch.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))
        covariance = smooth + sigma * torch.eye(len(x), dtype=x.dtype)
        return pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(x), covariance), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {name: draws[name] for name in ("rho", "alpha", "sigma")}

    return model, model, doubles(data["x"], data["y"]), parameters


def gauss_mix(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(y):
        # Two means in order: the first, and the distance to the second.
        first = pyro.sample("first", dist.Normal(y.new_zeros(()), 2.0))
        gap = pyro.sample("gap", dist.HalfNormal(y.new_tensor(2.0)).mask(False))
        second = first + gap
        pyro.factor("prior", dist.Normal(y.new_zeros(()), 2.0).log_prob(second))
        sigma = pyro.sample("sigma", dist.HalfNormal(y.new_full((2,), 2.0)).to_event(1))
        theta = pyro.sample("theta", dist.Beta(y.new_tensor(5.0), 5.0))
        weights = dist.Categorical(torch.stack([theta, 1 - theta]))
        with pyro.plate("obs", len(y)):
            parts = dist.Normal(torch.stack([first, second]), sigma)
            return pyro.sample("y", dist.MixtureSameFamily(weights, parts), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        mu = torch.stack([draws["first"], draws["first"] + draws["gap"]], -1)
        return {**columns("mu", mu), **columns("sigma", draws["sigma"]), "theta": draws["theta"]}

    return model, model, doubles(data["y"]), parameters


def diamonds(data: Mapping[str, Any]) -> tuple[Any, ...]:
    x, y = doubles(data["X"], data["Y"])
    x = x[:, 1:] - x[:, 1:].mean(0)

    def model(x, y):
        b = pyro.sample("b", dist.Normal(x.new_zeros(x.shape[1]), 1.0).to_event(1))
        intercept = pyro.sample("Intercept", dist.StudentT(x.new_tensor(3.0), 8.0, 10.0))
        # Student's t above zero; starts come from the half-normal distribution.
        sigma = pyro.sample("sigma", dist.HalfNormal(x.new_tensor(10.0)).mask(False))
        pyro.factor("prior", dist.StudentT(x.new_tensor(3.0), 0.0, 10.0).log_prob(sigma))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(intercept + x @ b, sigma), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {**columns("b", draws["b"]), "Intercept": draws["Intercept"], "sigma": draws["sigma"]}

    return model, model, (x, y), parameters


def irt_2pl(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(y):  # (item, person)
        items, persons = y.shape
        two = y.new_tensor(2.0)
        sigma_theta = pyro.sample("sigma_theta", dist.HalfCauchy(two))
        sigma_a = pyro.sample("sigma_a", dist.HalfCauchy(two))
        mu_b = pyro.sample("mu_b", dist.Normal(y.new_zeros(()), 5.0))
        sigma_b = pyro.sample("sigma_b", dist.HalfCauchy(two))
        with pyro.plate("persons", persons):
            theta = pyro.sample("theta", dist.Normal(0.0, sigma_theta))
        with pyro.plate("items", items):
            a = pyro.sample("a", dist.LogNormal(0.0, sigma_a))
            b = pyro.sample("b", dist.Normal(mu_b, sigma_b))
        logits = a[:, None] * (theta - b[:, None])
        return pyro.sample("y", dist.Bernoulli(logits=logits).to_event(2), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        single = {name: draws[name] for name in ("sigma_theta", "sigma_a", "mu_b", "sigma_b")}
        return {**single, **{k: v for name in ("theta", "a", "b") for k, v in columns(name, draws[name]).items()}}

    return model, model, doubles(data["y"]), parameters


def radon(data: Mapping[str, Any]) -> tuple[Any, ...]:
    floor, y = doubles(data["floor_measure"], data["log_radon"])
    county, counties = torch.tensor(data["county_idx"]) - 1, data["J"]

    def model(county, floor, y):
        one, ten = y.new_tensor(1.0), y.new_tensor(10.0)
        sigma_y = pyro.sample("sigma_y", dist.HalfNormal(one))
        mu_alpha, mu_beta = (pyro.sample(f"mu_{name}", dist.Normal(0.0, ten)) for name in ("alpha", "beta"))
        sigma_alpha, sigma_beta = (pyro.sample(f"sigma_{name}", dist.HalfNormal(one)) for name in ("alpha", "beta"))
        with pyro.plate("counties", counties):
            alpha = mu_alpha + sigma_alpha * pyro.sample("alpha_raw", dist.Normal(0 * one, 1.0))
            beta = mu_beta + sigma_beta * pyro.sample("beta_raw", dist.Normal(0 * one, 1.0))
        with pyro.plate("obs", len(y)):
            return pyro.sample("y", dist.Normal(alpha[county] + floor * beta[county], sigma_y), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        found = {name: draws[name] for name in ("mu_alpha", "sigma_alpha", "mu_beta", "sigma_beta", "sigma_y")}
        for name in ("alpha", "beta"):
            effects = draws[f"mu_{name}"][..., None] + draws[f"sigma_{name}"][..., None] * draws[f"{name}_raw"]
            found |= columns(name, effects)
        return found

    return model, model, (county, floor, y), parameters
