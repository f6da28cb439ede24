"""Twelve of the panel's posteriors as PyMC models, for nutpie; those with a loop over time are left out.

Each builder takes the data of posteriordb. Sites have the names of the NumPyro models.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

Data = Mapping[str, Any]


def schools(data: Data, centred: bool) -> None:
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    if centred:
        theta = pm.Normal("theta", mu, tau, shape=len(data["y"]))
    else:
        theta = mu + tau * pm.Normal("theta_trans", 0, 1, shape=len(data["y"]))
    pm.Normal("y", theta, data["sigma"], observed=data["y"])


def kidiq(data: Data) -> None:
    beta, sigma = pm.Flat("beta", shape=2), pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", beta[0] + beta[1] * np.array(data["mom_iq"]), sigma, observed=data["kid_score"])


def earnings(data: Data) -> None:
    height, male = np.array(data["height"], float), np.array(data["male"], float)
    x = np.stack([np.ones_like(height), height, male, height * male], -1)
    beta, sigma = pm.Flat("beta", shape=4), pm.HalfFlat("sigma")
    pm.Normal("y", pt.dot(x, beta), sigma, observed=np.log(data["earn"]))


def sblri(data: Data) -> None:
    x = np.array(data["X"], float)
    beta, sigma = pm.Normal("beta", 0, 10, shape=x.shape[1]), pm.HalfNormal("sigma", 10)
    pm.Normal("y", pt.dot(x, beta), sigma, observed=data["y"])


def ar_k(data: Data) -> None:
    order, y = data["K"], np.array(data["y"], float)
    lags = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1)
    alpha, beta = pm.Normal("alpha", 0, 10), pm.Normal("beta", 0, 10, shape=order)
    pm.Normal("y", alpha + pt.dot(lags, beta), pm.HalfCauchy("sigma", 2.5), observed=y[order:])


def kilpisjarvi(data: Data) -> None:
    alpha = pm.Normal("alpha", data["pmualpha"], data["psalpha"])
    beta = pm.Normal("beta", data["pmubeta"], data["psbeta"])
    pm.Normal("y", alpha + beta * np.array(data["x"], float), pm.HalfFlat("sigma"), observed=data["y"])


def gp_regr(data: Data) -> None:
    x = np.array(data["x"], float)
    rho, alpha, sigma = pm.Gamma("rho", alpha=25, beta=4), pm.HalfNormal("alpha", 2), pm.HalfNormal("sigma", 1)
    smooth = alpha**2 * pt.exp(-(np.subtract.outer(x, x) ** 2) / (2 * rho**2))
    pm.MvNormal("y", np.zeros(len(x)), cov=smooth + sigma * np.eye(len(x)), observed=data["y"])


def gauss_mix(data: Data) -> None:
    ordered = pm.distributions.transforms.ordered
    mu = pm.Normal("mu", 0, 2, shape=2, transform=ordered, initval=np.array([-1.0, 1.0]))
    sigma, theta = pm.HalfNormal("sigma", 2, shape=2), pm.Beta("theta", 5, 5)
    pm.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma, observed=data["y"])


def diamonds(data: Data) -> None:
    x = np.array(data["X"], float)[:, 1:]
    b, intercept = pm.Normal("b", 0, 1, shape=x.shape[1]), pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
    mean = intercept + pt.dot(x - x.mean(0), b)
    pm.Normal("y", mean, pm.HalfStudentT("sigma", nu=3, sigma=10), observed=data["Y"])


def irt_2pl(data: Data) -> None:
    y = np.array(data["y"])
    sigma_theta, sigma_a, sigma_b = (pm.HalfCauchy(f"sigma_{name}", 2) for name in ("theta", "a", "b"))
    theta, a = pm.Normal("theta", 0, sigma_theta, shape=y.shape[1]), pm.LogNormal("a", 0, sigma_a, shape=len(y))
    b = pm.Normal("b", pm.Normal("mu_b", 0, 5), sigma_b, shape=len(y))
    pm.Bernoulli("y", logit_p=a[:, None] * (theta - b[:, None]), observed=y)


def radon(data: Data) -> None:
    county, floor = np.array(data["county_idx"]) - 1, np.array(data["floor_measure"], float)
    sigma_y = pm.HalfNormal("sigma_y", 1)
    alpha, beta = (
        pm.Normal(f"mu_{name}", 0, 10)
        + pm.HalfNormal(f"sigma_{name}", 1) * pm.Normal(f"{name}_raw", 0, 1, shape=data["J"])
        for name in ("alpha", "beta")
    )
    pm.Normal("y", alpha[county] + floor * beta[county], sigma_y, observed=data["log_radon"])


BUILDERS: dict[str, Callable[[Data], None]] = {
    "eight_schools": lambda data: schools(data, centred=False),
    "eight_schools_centred": lambda data: schools(data, centred=True),
    "kidiq": kidiq,
    "sblri": sblri,
    "arK": ar_k,
    "earnings": earnings,
    "kilpisjarvi": kilpisjarvi,
    "gp_regr": gp_regr,
    "gauss_mix": gauss_mix,
    "diamonds": diamonds,
    "irt_2pl": irt_2pl,
    "radon": radon,
}
