"""nutpie for `mcmc.py`: PyMC models of `_mcmc_problems.py`, compiled by numba, in PyMC's float64."""

import math
import time
from typing import Any

import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt
from _mcmc_problems import GaussianProcess, Network, Problem, Schools


def network(problem: Network) -> None:
    hidden: Any = problem.x.astype(float)
    for layer, fan_in, fan_out in problem.layers:
        if layer > 1:
            hidden = pt.tanh(hidden) if problem.activation == "tanh" else pt.maximum(hidden, 0)
        w = pm.Normal(f"w{layer}", 0, 1, shape=(fan_in, fan_out))
        b = pm.Normal(f"b{layer}", 0, 1, shape=fan_out)
        hidden = pt.dot(hidden, w / math.sqrt(fan_in)) + b
    if problem.classifies:
        pm.Categorical("y", logit_p=hidden, observed=problem.y)
    else:
        pm.Normal("y", hidden[:, 0], pm.HalfNormal("noise", 1), observed=problem.y)


def schools(problem: Schools) -> None:
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    theta = mu + tau * pm.Normal("theta_trans", 0, 1, shape=len(problem.y))
    pm.Normal("y", theta, problem.x, observed=problem.y)


def gaussian_process(problem: GaussianProcess) -> None:
    count, columns = problem.x.shape
    tau, rho = pm.HalfCauchy("tau", 0.1), pm.HalfCauchy("rho", 1, shape=columns)
    scale, noise = pm.LogNormal("scale", 0, 1), pm.LogNormal("noise", -2, 1)
    squares = pt.dot((problem.x[:, None] - problem.x[None]) ** 2, tau * rho)
    r = pt.sqrt(squares + 1e-12)
    smooth = scale * (1 + math.sqrt(5) * r + 5 / 3 * squares) * pt.exp(-math.sqrt(5) * r)
    pm.MvNormal("y", np.zeros(count), cov=smooth + (noise + 1e-6) * np.eye(count), observed=problem.y)


BUILDERS: dict[type, Any] = {Network: network, Schools: schools, GaussianProcess: gaussian_process}


def sample(problem: Problem, seed: int, *, chains: int, warmup: int, draws: int, **settings: Any) -> dict[str, Any]:
    """nutpie does not tell when warm-up ends: its share of the time is taken as that of its gradients."""
    start = time.perf_counter()
    with pm.Model() as model:
        BUILDERS[type(problem)](problem)
    compiled = nutpie.compile_pymc_model(model)
    begun = time.perf_counter()
    trace = nutpie.sample(
        compiled, chains=chains, tune=warmup, draws=draws, seed=seed, progress_bar=False, save_warmup=True, **settings
    )
    seconds = time.perf_counter() - start
    before, after = (int(stats["n_steps"].sum()) for stats in (trace.warmup_sample_stats, trace.sample_stats))
    return {
        "draws": {name: np.asarray(value) for name, value in trace.posterior.items()},
        "seconds": seconds,
        "warmup_seconds": begun - start + (seconds - (begun - start)) * before / (before + after),
        "gradients": before + after,
        "divergences": int(trace.sample_stats["diverging"].sum()),
    }
