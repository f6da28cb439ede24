"""The panel's posteriors as NumPyro models, loops over time by `lax.scan`.

Each builder takes the data of posteriordb.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints

Built = tuple[Callable[..., None], tuple[Any, ...]]  # a model and its arguments
SUBSTEPS = 4  # of the Runge-Kutta method in a year


def flat(name: str, shape: tuple[int, ...] = (), support: Any = constraints.real) -> Any:
    return numpyro.sample(name, dist.ImproperUniform(support, (), shape))


def eight_schools(data: Mapping[str, Any]) -> Built:
    def model(sigma: Any, y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("school", len(y)):
            theta = mu + tau * numpyro.sample("theta_trans", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return model, (jnp.array(data["sigma"], float), jnp.array(data["y"], float))


def eight_schools_centred(data: Mapping[str, Any]) -> Built:
    def model(sigma: Any, y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("school", len(y)):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return model, (jnp.array(data["sigma"], float), jnp.array(data["y"], float))


def regression(x: np.ndarray, y: np.ndarray, priors: Callable[[], tuple[Any, Any]]) -> Built:
    def model(x: Any, y: Any) -> None:
        beta, sigma = priors()
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)

    return model, (jnp.array(x, float), jnp.array(y, float))


def kidiq(data: Mapping[str, Any]) -> Built:
    x = np.stack([np.ones(len(data["mom_iq"])), data["mom_iq"]], -1)
    return regression(x, data["kid_score"], lambda: (flat("beta", (2,)), numpyro.sample("sigma", dist.HalfCauchy(2.5))))


def earnings(data: Mapping[str, Any]) -> Built:
    height, male = np.array(data["height"], float), np.array(data["male"], float)
    x = np.stack([np.ones_like(height), height, male, height * male], -1)
    return regression(x, np.log(data["earn"]), lambda: (flat("beta", (4,)), flat("sigma", (), constraints.positive)))


def sblri(data: Mapping[str, Any]) -> Built:
    def priors() -> tuple[Any, Any]:
        beta = numpyro.sample("beta", dist.Normal(0, 10).expand([len(data["X"][0])]).to_event(1))
        return beta, numpyro.sample("sigma", dist.HalfNormal(10))

    return regression(data["X"], data["y"], priors)


def ar_k(data: Mapping[str, Any]) -> Built:
    order, y = data["K"], np.array(data["y"], float)
    lags = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1)

    def model(lags: Any, y: Any) -> None:
        alpha = numpyro.sample("alpha", dist.Normal(0, 10))
        beta = numpyro.sample("beta", dist.Normal(0, 10).expand([order]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)

    return model, (jnp.array(lags), jnp.array(y[order:]))


def kilpisjarvi(data: Mapping[str, Any]) -> Built:
    def model(x: Any, y: Any) -> None:
        alpha = numpyro.sample("alpha", dist.Normal(data["pmualpha"], data["psalpha"]))
        beta = numpyro.sample("beta", dist.Normal(data["pmubeta"], data["psbeta"]))
        sigma = flat("sigma", (), constraints.positive)
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)

    return model, (jnp.array(data["x"], float), jnp.array(data["y"], float))


def garch(data: Mapping[str, Any]) -> Built:
    def model(first: Any, y: Any) -> None:
        mu = flat("mu")
        alpha0 = flat("alpha0", (), constraints.positive)
        alpha1 = numpyro.sample("alpha1", dist.Beta(1, 2))
        beta1 = (1 - alpha1) * numpyro.sample("share", dist.Uniform(0, 1))
        shocks = alpha0 + alpha1 * (y[:-1] - mu) ** 2

        def step(variance: Any, shock: Any) -> Any:
            new = shock + beta1 * variance
            return new, new

        _, variances = lax.scan(step, first**2, shocks)
        variances = jnp.concatenate([first[None] ** 2, variances])
        with numpyro.plate("time", len(y)):
            numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variances)), obs=y)

    return model, (jnp.array(data["sigma1"], float), jnp.array(data["y"], float))


def arma(data: Mapping[str, Any]) -> Built:
    def model(y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 10))
        phi, theta = (numpyro.sample(name, dist.Normal(0, 2)) for name in ("phi", "theta"))
        sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))

        def step(error: Any, residual: Any) -> Any:
            new = residual - theta * error
            return new, new

        first = y[0] - mu - phi * mu
        _, errors = lax.scan(step, first, y[1:] - mu - phi * y[:-1])
        with numpyro.plate("time", len(y)):
            numpyro.sample("err", dist.Normal(jnp.concatenate([first[None], errors]), sigma), obs=jnp.zeros(len(y)))

    return model, (jnp.array(data["y"], float),)


def hidden_markov(data: Mapping[str, Any]) -> Built:
    def model(y: Any) -> None:
        with numpyro.plate("state", 2):
            theta = numpyro.sample("theta", dist.Dirichlet(jnp.ones(2)))
        mu = flat("mu", (2,), constraints.positive_ordered_vector)
        numpyro.factor("prior", dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu).sum())
        emissions = dist.Normal(mu, 1.0).log_prob(y[:, None])

        def step(forward: Any, emission: Any) -> Any:
            return logsumexp(forward[:, None] + jnp.log(theta), 0) + emission, None

        forward, _ = lax.scan(step, emissions[0], emissions[1:])
        numpyro.factor("y", logsumexp(forward))

    return model, (jnp.array(data["y"], float),)


def gauss_mix(data: Mapping[str, Any]) -> Built:
    def model(y: Any) -> None:
        mu = flat("mu", (2,), constraints.ordered_vector)
        numpyro.factor("prior", dist.Normal(0, 2).log_prob(mu).sum())
        sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
        theta = numpyro.sample("theta", dist.Beta(5, 5))
        weights = dist.Categorical(probs=jnp.stack([theta, 1 - theta]))
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)

    return model, (jnp.array(data["y"], float),)


def gp_regr(data: Mapping[str, Any]) -> Built:
    def model(x: Any, y: Any) -> None:
        rho = numpyro.sample("rho", dist.Gamma(25, 4))
        alpha = numpyro.sample("alpha", dist.HalfNormal(2))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
        smooth = alpha**2 * jnp.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), smooth + sigma * jnp.eye(len(x))), obs=y)

    return model, (jnp.array(data["x"], float), jnp.array(data["y"], float))


def diamonds(data: Mapping[str, Any]) -> Built:
    x = np.array(data["X"], float)[:, 1:]

    def model(x: Any, y: Any) -> None:
        b = numpyro.sample("b", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
        intercept = numpyro.sample("Intercept", dist.StudentT(3, 8, 10))
        sigma = numpyro.sample("sigma", dist.LeftTruncatedDistribution(dist.StudentT(3, 0, 10), low=0.0))
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.Normal(intercept + x @ b, sigma), obs=y)

    return model, (jnp.array(x - x.mean(0)), jnp.array(data["Y"], float))


def lotka_volterra(data: Mapping[str, Any]) -> Built:
    def model(first: Any, y: Any) -> None:
        middle, spread = jnp.array([1.0, 0.05, 1.0, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])
        theta = numpyro.sample("theta", dist.TruncatedNormal(middle, spread, low=0.0).to_event(1))
        sigma = numpyro.sample("sigma", dist.LogNormal(-1, 1).expand([2]).to_event(1))
        start = numpyro.sample("z_init", dist.LogNormal(jnp.log(10.0), 1).expand([2]).to_event(1))
        alpha, beta, gamma, delta = theta

        def slope(z: Any) -> Any:
            return jnp.stack([(alpha - beta * z[1]) * z[0], (delta * z[0] - gamma) * z[1]])

        def year(z: Any, _: Any) -> Any:
            h = 1 / SUBSTEPS
            for _ in range(SUBSTEPS):
                k1 = slope(z)
                k2 = slope(z + h / 2 * k1)
                k3 = slope(z + h / 2 * k2)
                z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(z + h * k3))
            return z, z

        _, z = lax.scan(year, start, None, len(y))
        numpyro.sample("y_init", dist.LogNormal(jnp.log(start), sigma).to_event(1), obs=first)
        with numpyro.plate("year", len(y)):
            numpyro.sample("y", dist.LogNormal(jnp.log(z), sigma).to_event(1), obs=y)

    return model, (jnp.array(data["y_init"], float), jnp.array(data["y"], float))


def irt_2pl(data: Mapping[str, Any]) -> Built:
    y = jnp.array(data["y"])

    def model(y: Any) -> None:
        sigma_theta, sigma_a = (numpyro.sample(f"sigma_{name}", dist.HalfCauchy(2)) for name in ("theta", "a"))
        mu_b = numpyro.sample("mu_b", dist.Normal(0, 5))
        sigma_b = numpyro.sample("sigma_b", dist.HalfCauchy(2))
        with numpyro.plate("persons", y.shape[1]):
            theta = numpyro.sample("theta", dist.Normal(0, sigma_theta))
        with numpyro.plate("items", y.shape[0]):
            a = numpyro.sample("a", dist.LogNormal(0, sigma_a))
            b = numpyro.sample("b", dist.Normal(mu_b, sigma_b))
        logits = a[:, None] * (theta - b[:, None])
        numpyro.sample("y", dist.Bernoulli(logits=logits).to_event(2), obs=y)

    return model, (y,)


def radon(data: Mapping[str, Any]) -> Built:
    county = jnp.array(data["county_idx"]) - 1

    def model(county: Any, floor: Any, y: Any) -> None:
        sigma_y = numpyro.sample("sigma_y", dist.HalfNormal(1))
        effects = []
        for name in ("alpha", "beta"):
            mu, sigma = (
                numpyro.sample(f"mu_{name}", dist.Normal(0, 10)),
                numpyro.sample(f"sigma_{name}", dist.HalfNormal(1)),
            )
            with numpyro.plate(f"counties_{name}", data["J"]):
                effects.append(mu + sigma * numpyro.sample(f"{name}_raw", dist.Normal(0, 1)))
        alpha, beta = effects
        with numpyro.plate("obs", len(y)):
            numpyro.sample("y", dist.Normal(alpha[county] + floor * beta[county], sigma_y), obs=y)

    return model, (county, jnp.array(data["floor_measure"], float), jnp.array(data["log_radon"], float))


BUILDERS: dict[str, Callable[[Mapping[str, Any]], Built]] = {
    "eight_schools": eight_schools,
    "eight_schools_centred": eight_schools_centred,
    "kidiq": kidiq,
    "sblri": sblri,
    "arK": ar_k,
    "earnings": earnings,
    "kilpisjarvi": kilpisjarvi,
    "garch": garch,
    "gp_regr": gp_regr,
    "hmm": hidden_markov,
    "gauss_mix": gauss_mix,
    "arma11": arma,
    "diamonds": diamonds,
    "lotka_volterra": lotka_volterra,
    "irt_2pl": irt_2pl,
    "radon": radon,
}
