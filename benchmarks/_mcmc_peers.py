"""NumPyro's and BlackJAX's samplers for `mcmc.py`, each as fast as its library makes it on this machine.

The models are NumPyro's; BlackJAX gets NumPyro's log density of them. Chains are spread over
host devices, one for each core: a JAX program of one device leaves the others idle on problems of this size.
Loops are compiled once for warm-up and draws, ahead of the first kept draw.

- NumPyro's NUTS, ``chain_method`` "sequential" (the chains of a device one after another, with one chain for each
  device what NumPyro calls parallel) or "vectorized" (the chains of a device in lockstep);
- BlackJAX's NUTS with its window adaptation, in the same two ways;
- BlackJAX's ChEES-HMC (Hoffman, Radul & Sountsov 2021), all chains adapted together.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from _mcmc_problems import GaussianProcess, Network, Problem, Schools
from blackjax.adaptation.base import get_filter_adapt_info_fn
from blackjax.mcmc import dynamic_hmc
from jax import lax, random
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpyro.infer.util import initialize_model, potential_energy

# How the chains of one device run.
EACH: dict[str, Callable[..., Any]] = {
    "sequential": lambda function: partial(lax.map, function),
    "vectorized": jax.vmap,
}


def network(problem: Network) -> Callable[..., None]:
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[problem.activation]

    def model(x: Any, y: Any) -> None:
        hidden = x
        for layer, fan_in, fan_out in problem.layers:
            w = numpyro.sample(f"w{layer}", dist.Normal(0, 1).expand([fan_in, fan_out]).to_event(2))
            b = numpyro.sample(f"b{layer}", dist.Normal(0, 1).expand([fan_out]).to_event(1))
            hidden = (hidden if layer == 1 else activation(hidden)) @ (w / math.sqrt(fan_in)) + b
        if problem.classifies:
            numpyro.sample("y", dist.Categorical(logits=hidden), obs=y)
        else:
            noise = numpyro.sample("noise", dist.HalfNormal(1))
            numpyro.sample("y", dist.Normal(hidden[:, 0], noise), obs=y)

    return model


def schools(problem: Schools) -> Callable[..., None]:
    def model(x: Any, y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        theta = mu + tau * numpyro.sample("theta_trans", dist.Normal(0, 1).expand([len(problem.y)]).to_event(1))
        numpyro.sample("y", dist.Normal(theta, x), obs=y)

    return model


def gaussian_process(problem: GaussianProcess) -> Callable[..., None]:
    count, columns = problem.x.shape

    def model(x: Any, y: Any) -> None:
        tau = numpyro.sample("tau", dist.HalfCauchy(0.1))
        rho = numpyro.sample("rho", dist.HalfCauchy(1).expand([columns]).to_event(1))
        scale, noise = numpyro.sample("scale", dist.LogNormal(0, 1)), numpyro.sample("noise", dist.LogNormal(-2, 1))
        squares = ((x[:, None] - x[None]) ** 2) @ (tau * rho)
        r = jnp.sqrt(squares + 1e-12)
        smooth = scale * (1 + math.sqrt(5) * r + 5 / 3 * squares) * jnp.exp(-math.sqrt(5) * r)
        covariance = smooth + (noise + 1e-6) * jnp.eye(count)
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(count), covariance), obs=y)

    return model


MODELS: dict[type, Callable[[Any], Any]] = {Network: network, Schools: schools, GaussianProcess: gaussian_process}


def model_of(problem: Problem) -> tuple[Callable[..., None], tuple[Any, Any]]:
    model = MODELS[type(problem)](problem)
    return model, (jnp.asarray(problem.x), jnp.asarray(problem.y))


def numpyro_nuts(
    problem: Problem,
    seed: int,
    *,
    chains: int,
    warmup: int,
    draws: int,
    chain_method: str = "sequential",
    **settings: Any,
) -> dict[str, Any]:
    devices = _devices(chains)
    start = time.perf_counter()
    model, data = model_of(problem)
    kernel = numpyro.infer.NUTS(model, **settings)
    each = EACH[chain_method]

    def begin(key: Any) -> Any:
        return kernel.init(key, warmup, None, model_args=data)

    def advance(state: Any, kept: Any, steps: Any) -> Any:
        """``steps`` transitions of one chain; rows past the end of ``kept`` are dropped, so warm-up writes none."""

        def body(i: Any, carry: Any) -> Any:
            state, kept, gradients = carry
            state = kernel.sample(state, data, {})
            row = jnp.where(state.i > warmup, i, draws)
            new = (state.z, state.diverging)
            kept = jax.tree.map(lambda rows, one: rows.at[row].set(one, mode="drop"), kept, new)
            return state, kept, gradients + state.num_steps

        return lax.fori_loop(0, steps, body, (state, kept, 0))

    def advance_all(carry: Any, steps: Any) -> Any:
        return each(lambda one: advance(*one, steps))(carry)

    state = jax.pmap(each(begin))(_keys(random.key(seed), devices, chains))
    kept = jax.tree.map(
        lambda one: jnp.zeros((*one.shape[:2], draws, *one.shape[2:]), one.dtype), (state.z, state.diverging)
    )
    # Compiled ahead: the second call of a jitted function may compile again, since its inputs are then its outputs.
    run = jax.pmap(advance_all, in_axes=(0, None)).lower((state, kept), jnp.int32(warmup)).compile()
    state, kept, before = jax.block_until_ready(run((state, kept), jnp.int32(warmup)))
    warmed = time.perf_counter()
    _, (z, diverging), after = jax.block_until_ready(run((state, kept), jnp.int32(draws)))
    flat = {name: np.asarray(value).reshape(chains, *value.shape[2:]) for name, value in z.items()}
    return _result(problem, flat, start, warmed, int(before.sum() + after.sum()), int(diverging.sum()))


def blackjax_nuts(
    problem: Problem,
    seed: int,
    *,
    chains: int,
    warmup: int,
    draws: int,
    chain_method: str = "sequential",
    max_tree_depth: int = 10,
    **settings: Any,
) -> dict[str, Any]:
    devices = _devices(chains)
    start = time.perf_counter()
    log_density, begin, sites = density(problem)
    each = EACH[chain_method]
    only_steps = get_filter_adapt_info_fn(info_keys={"num_integration_steps"})
    kernel = blackjax.nuts.build_kernel()

    def warm(key: Any) -> Any:
        first, second = random.split(key)
        adaptation = blackjax.window_adaptation(
            blackjax.nuts, log_density, adaptation_info_fn=only_steps, max_num_doublings=max_tree_depth, **settings
        )
        (state, parameters), info = adaptation.run(second, begin(first), num_steps=warmup)
        tuned = {name: parameters[name] for name in ("step_size", "inverse_mass_matrix")}
        return state, tuned, info.info.num_integration_steps.sum()

    def sample(warmed: Any) -> Any:
        key, state, tuned = warmed

        def step(state: Any, key: Any) -> Any:
            state, info = kernel(key, state, log_density, max_num_doublings=max_tree_depth, **tuned)
            return state, (sites(state.position), info.is_divergent, info.num_integration_steps)

        return lax.scan(step, state, random.split(key, draws))[1]

    first, second = random.split(random.key(seed))
    state, tuned, before = jax.pmap(each(warm))(_keys(first, devices, chains))
    arguments = (_keys(second, devices, chains), state, tuned)
    run = jax.pmap(each(sample)).lower(arguments).compile()
    jax.block_until_ready(state)
    warmed = time.perf_counter()
    z, diverging, after = jax.block_until_ready(run(arguments))
    flat = {name: np.asarray(value).reshape(chains, *value.shape[2:]) for name, value in z.items()}
    return _result(problem, flat, start, warmed, int(before.sum() + after.sum()), int(diverging.sum()))


def blackjax_chees(
    problem: Problem,
    seed: int,
    *,
    chains: int,
    warmup: int,
    draws: int,
    learning_rate: float = 0.025,
    step_size: float = 0.1,
    **settings: Any,
) -> dict[str, Any]:
    devices = _devices(chains)
    start = time.perf_counter()
    log_density, begin, sites = density(problem)
    functions: dict[str, Any] = {}

    @jax.jit
    def warm(key: Any, positions: Any) -> Any:
        adaptation = blackjax.chees_adaptation(
            log_density,
            chains,
            adaptation_info_fn=get_filter_adapt_info_fn(info_keys={"num_integration_steps"}),
            **settings,
        )
        (states, parameters), info = adaptation.run(
            key, positions, step_size, optax.adam(learning_rate), num_steps=warmup, max_sampling_steps=draws
        )
        # A compiled function can return numbers only.
        functions.update({name: parameters.pop(name) for name in ("next_random_arg_fn", "integration_steps_fn")})
        return states, parameters, info.info.num_integration_steps.sum()

    # All chains take the same number of steps; with a shared number the loop needs no mask.
    shared = dynamic_hmc.DynamicHMCState(0, 0, 0, None)

    @jax.jit
    def sample(key: Any, states: Any, parameters: Any) -> Any:
        kernel = dynamic_hmc.build_kernel(**functions)

        def step(states: Any, key: Any) -> Any:
            def one(key: Any, state: Any) -> Any:
                return kernel(key, state, log_density, **parameters)

            keys = random.split(key, chains)
            states, info = jax.vmap(one, in_axes=(0, shared), out_axes=(shared, 0))(keys, states)
            return states, (jax.vmap(sites)(states.position), info.is_divergent, info.num_integration_steps)

        states = states._replace(random_generator_arg=states.random_generator_arg[0])
        return lax.scan(step, states, random.split(key, draws))[1]

    keys = random.split(random.key(seed), 3)
    spread = NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("chain",)), PartitionSpec("chain"))
    positions = jax.device_put(jax.jit(jax.vmap(begin))(random.split(keys[0], chains)), spread)
    states, parameters, before = jax.block_until_ready(warm(keys[1], positions))
    run = sample.lower(keys[2], states, parameters).compile()
    warmed = time.perf_counter()
    z, diverging, after = jax.block_until_ready(run(keys[2], states, parameters))
    by_chain = {name: np.swapaxes(np.asarray(value), 0, 1) for name, value in z.items()}
    steps = float(parameters["integration_steps_params"][0])
    found = _result(problem, by_chain, start, warmed, int(before) + int(after.sum()), int(diverging.sum()))
    return found | {"tuned": {"step_size": float(parameters["step_size"]), "steps": steps}}


def density(problem: Problem) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """The log density of an unconstrained vector, a start from a key, and the vector's sites.

    BlackJAX 1.7.1 raises an error if ChEES adapts a site of more than one dimension, hence a vector. The
    start is NumPyro's default, uniform on (-2, 2), without its search for a valid one: here all are.
    """
    model, data = model_of(problem)
    shapes = jax.eval_shape(lambda key: initialize_model(key, model, model_args=data).param_info.z, random.key(0))
    vector, sites = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))

    def log_density(vector: Any) -> Any:
        return -potential_energy(model, data, {}, sites(vector))

    return log_density, lambda key: random.uniform(key, vector.shape, minval=-2, maxval=2), sites


def _devices(chains: int) -> int:
    """The largest number that divides the chains. The first call starts JAX, before the clock, like an import."""
    return math.gcd(chains, len(jax.devices()))


def _keys(key: Any, devices: int, chains: int) -> Any:
    return random.split(key, (devices, chains // devices))


def _result(
    problem: Problem, z: dict[str, np.ndarray], start: float, warmed: float, gradients: int, divergences: int
) -> dict[str, Any]:
    """What `mcmc.py` expects from every sampler: draws (chain, draw, ...) of the model's sites, times, counts."""
    draws = {name: np.exp(value) if name in problem.positive else value for name, value in z.items()}
    return {
        "draws": draws,
        "seconds": time.perf_counter() - start,
        "warmup_seconds": warmed - start,
        "gradients": gradients,
        "divergences": divergences,
    }
