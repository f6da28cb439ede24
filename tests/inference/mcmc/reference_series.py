"""Four published posteriors with a loop over time: GARCH, ARMA, a hidden Markov model, and Lotka-Volterra.

As in `reference_models.py`, each builder takes the data of posteriordb and returns the model, the model as published,
the arguments and the published parameters of the draws. Here both models are the same.
"""

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.inference.mcmc.reference_models import Draws, columns, doubles, flat, flat_above_zero

# Steps of the Runge-Kutta method in a year: log populations are within 2e-4 of the exact solution, and sigma is 0.25.
SUBSTEPS = 4


def garch(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(first, y):
        mu = pyro.sample("mu", flat((), y))
        alpha0 = pyro.sample("alpha0", flat_above_zero(y))
        # Uniform on the triangle alpha1 > 0, beta1 > 0, alpha1 + beta1 < 1: alpha1 has density 2 (1 - alpha1).
        alpha1 = pyro.sample("alpha1", dist.Beta(y.new_tensor(1.0), 2.0))
        share = pyro.sample("share", dist.Uniform(y.new_zeros(()), 1.0))
        beta1 = pyro.deterministic("beta1", (1 - alpha1) * share)
        variances = [first**2]
        for shock in alpha0 + alpha1 * (y[:-1] - mu) ** 2:
            variances.append(shock + beta1 * variances[-1])
        with pyro.plate("time", len(y)):
            return pyro.sample("y", dist.Normal(mu, torch.stack(variances).sqrt()), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        found = {name: draws[name] for name in ("mu", "alpha0", "alpha1")}
        return {**found, "beta1": (1 - draws["alpha1"]) * draws["share"]}

    return model, model, doubles(data["sigma1"], data["y"]), parameters


def arma(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(y):
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 10.0))
        phi = pyro.sample("phi", dist.Normal(y.new_zeros(()), 2.0))
        theta = pyro.sample("theta", dist.Normal(y.new_zeros(()), 2.0))
        sigma = pyro.sample("sigma", dist.HalfCauchy(y.new_tensor(2.5)))
        errors = [y[0] - mu - phi * mu]
        for residual in y[1:] - mu - phi * y[:-1]:
            errors.append(residual - theta * errors[-1])
        with pyro.plate("time", len(y)):
            return pyro.sample("err", dist.Normal(torch.stack(errors), sigma), obs=torch.zeros_like(y))

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {name: draws[name] for name in ("mu", "phi", "theta", "sigma")}

    return model, model, doubles(data["y"]), parameters


def hidden_markov(data: Mapping[str, Any]) -> tuple[Any, ...]:
    def model(y):
        with pyro.plate("state", 2):
            theta = pyro.sample("theta", dist.Dirichlet(y.new_ones(2)))  # (from, to)
        # Two positive means in order: the first, and the distance to the second.
        first = pyro.sample("first", dist.HalfNormal(y.new_tensor(3.0)).mask(False))
        gap = pyro.sample("gap", dist.HalfNormal(y.new_tensor(7.0)).mask(False))
        mu = torch.stack([first, first + gap])
        pyro.factor("prior", dist.Normal(y.new_tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
        # The filter: log probabilities of the state at t, up to a constant, given the observations before t.
        emissions = dist.Normal(mu, 1.0).log_prob(y[:, None])  # (time, state)
        predicted, log_theta = [torch.zeros_like(mu)], theta.log()
        for emission in emissions[:-1]:
            filtered = (predicted[-1] + emission).log_softmax(0)
            predicted.append(torch.logsumexp(filtered[:, None] + log_theta, 0))
        states = dist.Categorical(logits=torch.stack(predicted))
        with pyro.plate("time", len(y)):
            return pyro.sample("y", dist.MixtureSameFamily(states, dist.Normal(mu.expand(len(y), 2), 1.0)), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        theta, first = draws["theta"], draws["first"]
        mu = torch.stack([first, first + draws["gap"]], -1)
        rows = {**columns("theta1", theta[..., 0, :]), **columns("theta2", theta[..., 1, :])}
        return {**rows, **columns("mu", mu)}

    return model, model, doubles(data["y"]), parameters


def populations(theta: Tensor, start: Tensor, years: int, substeps: int = SUBSTEPS) -> Tensor:
    """Hares and lynxes (year, 2) after 1, ..., ``years`` years, by Runge and Kutta's method of order 4.

    ``theta`` holds birth of prey, predation, death of predators and their growth: (alpha, beta, gamma, delta).
    """
    alpha, beta, gamma, delta = theta.unbind(-1)
    step = 1 / substeps

    def slope(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return (alpha - beta * v) * u, (delta * u - gamma) * v

    (u, v), found = start.unbind(-1), []
    for _ in range(years):
        for _ in range(substeps):
            u1, v1 = slope(u, v)
            u2, v2 = slope(u + step / 2 * u1, v + step / 2 * v1)
            u3, v3 = slope(u + step / 2 * u2, v + step / 2 * v2)
            u4, v4 = slope(u + step * u3, v + step * v3)
            u, v = u + step / 6 * (u1 + 2 * u2 + 2 * u3 + u4), v + step / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        found.append(torch.stack([u, v], -1))
    return torch.stack(found)


def lotka_volterra(data: Mapping[str, Any]) -> tuple[Any, ...]:
    assert data["ts"] == list(range(1, data["N"] + 1))

    def model(y):
        middle, spread = y.new_tensor([1.0, 0.05, 1.0, 0.05]), y.new_tensor([0.5, 0.05, 0.5, 0.05])
        # A normal prior above zero; starts come from the half-normal distribution.
        theta = pyro.sample("theta", dist.HalfNormal(middle).to_event(1).mask(False))
        pyro.factor("prior", dist.Normal(middle, spread).log_prob(theta).sum())
        sigma = pyro.sample("sigma", dist.LogNormal(y.new_full((2,), -1.0), 1.0).to_event(1))
        start = pyro.sample("z_init", dist.LogNormal(y.new_tensor([10.0, 10.0]).log(), 1.0).to_event(1))
        z = torch.cat([start[None], populations(theta, start, len(y) - 1)])
        with pyro.plate("year", len(y)):
            return pyro.sample("y", dist.LogNormal(z.log(), sigma).to_event(1), obs=y)

    def parameters(draws: Draws) -> dict[str, Tensor]:
        return {
            key: value for name in ("theta", "z_init", "sigma") for key, value in columns(name, draws[name]).items()
        }

    return model, model, doubles([data["y_init"], *data["y"]]), parameters
