"""Our samplers, and Pyro's NUTS, for `mcmc.py`: the models of `_mcmc_problems.py` in plain Pyro."""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import torch._dynamo  # torch.func imports it at its first use; no sampler's time includes imports
from _mcmc_problems import GaussianProcess, Network, Problem, Schools
from torch import Tensor

from posterity.inference import HMC, NUTS, infer
from posterity.inference.engine import Density, prepare

Model = Callable[..., None]


def network(problem: Network) -> Model:
    activation = getattr(torch, problem.activation)

    def model(x: Tensor, y: Tensor | None = None) -> None:
        hidden = x
        for layer, fan_in, fan_out in problem.layers:
            w = pyro.sample(f"w{layer}", dist.Normal(x.new_zeros(fan_in, fan_out), 1.0).to_event(2))
            b = pyro.sample(f"b{layer}", dist.Normal(x.new_zeros(fan_out), 1.0).to_event(1))
            hidden = (hidden if layer == 1 else activation(hidden)) @ (w / math.sqrt(fan_in)) + b
        if problem.classifies:
            likelihood = dist.Categorical(logits=hidden)
        else:
            likelihood = dist.Normal(hidden.squeeze(-1), pyro.sample("noise", dist.HalfNormal(x.new_ones(()))))
        with pyro.plate("obs", len(x)):
            pyro.sample("y", likelihood, obs=y)

    return model


def schools(problem: Schools) -> Model:
    def model(sigma: Tensor, y: Tensor | None = None) -> None:
        mu = pyro.sample("mu", dist.Normal(sigma.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(sigma.new_full((), 5.0)))
        theta = pyro.sample("theta_trans", dist.Normal(torch.zeros_like(sigma), 1.0).to_event(1))
        with pyro.plate("school", len(sigma)):
            pyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)

    return model


def gaussian_process(problem: GaussianProcess) -> Model:
    count, columns = problem.x.shape

    def model(x: Tensor, y: Tensor | None = None) -> None:
        tau = pyro.sample("tau", dist.HalfCauchy(x.new_full((), 0.1)))
        rho = pyro.sample("rho", dist.HalfCauchy(x.new_ones(columns)).to_event(1))
        scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 1.0))
        noise = pyro.sample("noise", dist.LogNormal(x.new_full((), -2.0), 1.0))
        squares = ((x[:, None] - x[None]) ** 2) @ (tau * rho)
        r = (squares + 1e-12).sqrt()
        smooth = scale * (1 + math.sqrt(5) * r + 5 / 3 * squares) * (-math.sqrt(5) * r).exp()
        covariance = smooth + (noise + 1e-6) * torch.eye(count, dtype=x.dtype)
        pyro.sample("y", dist.MultivariateNormal(x.new_zeros(count), covariance), obs=y)

    return model


MODELS: dict[type, Callable[[Any], Model]] = {Network: network, Schools: schools, GaussianProcess: gaussian_process}


def model_of(problem: Problem) -> tuple[Model, Tensor, Tensor]:
    model = MODELS[type(problem)](problem)
    return model, torch.from_numpy(problem.x), torch.from_numpy(problem.y)


def hmc(problem: Problem, seed: int, **settings: Any) -> dict[str, Any]:
    return _ours(problem, seed, HMC(**settings))


def nuts(problem: Problem, seed: int, **settings: Any) -> dict[str, Any]:
    return _ours(problem, seed, NUTS(**settings))


def _ours(problem: Problem, seed: int, method: Any) -> dict[str, Any]:
    model, x, y = model_of(problem)
    start = time.perf_counter()
    posterior = infer(model, x, y, method=method, seed=seed)
    seconds = time.perf_counter() - start
    # The work of `infer` outside the sampler's clock counts as warm-up.
    around = seconds - float(posterior.attrs["seconds"])
    return {
        "draws": {name: value.numpy() for name, value in posterior.draws.items()},
        "seconds": seconds,
        "warmup_seconds": around + float(posterior.attrs["warmup_seconds"]),
        "gradients": int(posterior.attrs["gradients"]),
        "divergences": int(posterior.sample_stats["diverging"].sum()),
    }


class _CountingNUTS(pyro.infer.NUTS):
    gradients = 0

    def _build_basetree(self, *args: Any) -> Any:
        self.gradients += 1
        return super()._build_basetree(*args)


def pyro_nuts(problem: Problem, seed: int, *, chains: int, **settings: Any) -> dict[str, Any]:
    """Pyro's NUTS, one process for each chain. Pyro leaves one core free: on two it would run the chains one by one."""
    start = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(chains) as pool:
        found = pool.starmap(_pyro_chain, [(problem, chains * seed + chain, settings) for chain in range(chains)])
    return {
        "draws": {name: np.stack([chain["draws"][name] for chain in found]) for name in found[0]["draws"]},
        "seconds": time.perf_counter() - start,
        "warmup_seconds": max(chain["warmed"] for chain in found) - start,
        "gradients": sum(chain["gradients"] for chain in found),
        "divergences": sum(chain["divergences"] for chain in found),
    }


def _pyro_chain(problem: Problem, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    settings = dict(settings)
    warmup, draws = settings.pop("warmup"), settings.pop("draws")
    model, x, y = model_of(problem)
    warmed, divergences = time.perf_counter(), 0  # the clock is the same in all processes

    def clock(kernel: Any, values: Any, stage: str, iteration: int) -> None:
        nonlocal warmed, divergences
        if stage.startswith("Warmup"):
            warmed = time.perf_counter()
        divergences = len(kernel._divergences)  # Pyro clears them before `run` returns

    torch.set_default_dtype(x.dtype)  # in this process alone, which runs one chain
    pyro.set_rng_seed(seed)
    kernel = _CountingNUTS(model, **settings)
    mcmc = pyro.infer.MCMC(kernel, num_samples=draws, warmup_steps=warmup, hook_fn=clock, disable_progbar=True)
    mcmc.run(x, y)
    return {
        "draws": {name: value.numpy() for name, value in mcmc.get_samples().items()},
        "warmed": warmed,
        "gradients": kernel.gradients,
        "divergences": divergences,
    }


def scaling(problem: Problem, steps: int = 20, repeats: int = 15) -> dict[str, float]:
    """Microseconds of one gradient inside a trajectory for one chain, for 1 to 1,024 chains; medians."""
    model, x, y = model_of(problem)
    density, metrics = Density(model, (x, y)), {}
    for chains in (2**k for k in range(11)):
        positions = 0.3 * torch.randn(chains, density.dim, generator=torch.Generator().manual_seed(chains))
        engine = prepare(density, positions, tier="compiled")
        value, grad = engine.gradient(positions)
        state = (positions, torch.zeros_like(positions), grad, value)
        still, many = torch.zeros(chains), torch.full((chains,), steps)
        times = []
        for _ in range(repeats):
            tick = time.perf_counter()
            engine.integrate(state, still, many, torch.ones(density.dim))
            times.append(time.perf_counter() - tick)
        metrics[f"scaling.{chains}.us_per_chain_grad"] = statistics.median(times) / steps / chains * 1e6
        metrics[f"scaling.{chains}.threads"] = engine.threads
    return metrics
