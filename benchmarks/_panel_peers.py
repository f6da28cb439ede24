"""NumPyro's and BlackJAX's samplers for `panel.py`, as their documentation calls them, without settings of ours.

Everything is in float64, as the reference posteriors and our runs are. BlackJAX gets NumPyro's log density of the
same model, and NumPyro's starts.
"""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import numpy as np
import numpyro
import optax
from _panel_draws import PARAMETERS
from _panel_models_jax import BUILDERS
from jax import random
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import initialize_model

jax.config.update("jax_enable_x64", True)

CHAINS, WARMUP, DRAWS = 4, 1000, 1000
CHEES_CHAINS = 16  # BlackJAX has no default; as many as ours
LEARNING_RATE, FIRST_STEP = 0.025, 0.1  # ChEES has no defaults for these two; those of its authors


def numpyro_nuts(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    """The chains one after another: what NumPyro's default ``chain_method``, "parallel", does on one device."""
    return _numpyro(name, data, seed, clock, "sequential" if jax.device_count() < CHAINS else "parallel")


def numpyro_vectorized(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    """The chains in lockstep."""
    return _numpyro(name, data, seed, clock, "vectorized")


def _numpyro(
    name: str, data: dict[str, Any], seed: int, clock: Callable[[], None], chain_method: str
) -> dict[str, Any]:
    model, args = BUILDERS[name](data)
    clock()
    kernel = numpyro.infer.NUTS(model)
    mcmc = numpyro.infer.MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method=chain_method,
        progress_bar=False,
    )
    mcmc.run(random.key(seed), *args, extra_fields=("diverging", "num_steps"))
    draws = {site: np.asarray(value) for site, value in mcmc.get_samples(group_by_chain=True).items()}
    fields = mcmc.get_extra_fields(group_by_chain=True)
    clock()
    return {
        "parameters": PARAMETERS[name](draws),
        "gradients": int(fields["num_steps"].sum()),
        "divergences": int(fields["diverging"].sum()),
    }


def density(name: str, data: dict[str, Any], keys: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """The log density of a vector, valid starts (chain, dim) of NumPyro, and the sites of a vector."""
    model, args = BUILDERS[name](data)
    found = initialize_model(keys, model, model_args=args)
    vectors = jax.vmap(lambda tree: ravel_pytree(tree)[0])(found.param_info.z)
    _, sites = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], found.param_info.z))

    def log_density(vector: Any) -> Any:
        return -found.potential_fn(sites(vector))

    return log_density, vectors, lambda vector: found.postprocess_fn(sites(vector))


def blackjax_nuts(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    """Window adaptation of every chain, the chains one after another, as for NumPyro."""
    clock()
    first, second, third = random.split(random.key(seed), 3)
    log_density, starts, sites = density(name, data, random.split(first, CHAINS))

    @jax.jit
    def run(warm_key: Any, draw_key: Any, start: Any) -> Any:
        adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
        (state, parameters), info = adaptation.run(warm_key, start, WARMUP)
        kernel = blackjax.nuts(log_density, **parameters)

        def step(state: Any, key: Any) -> Any:
            state, info = kernel.step(key, state)
            return state, (sites(state.position), info.is_divergent, info.num_integration_steps)

        _, kept = jax.lax.scan(step, state, random.split(draw_key, DRAWS))
        return kept, info.info.num_integration_steps.sum()

    keys = random.split(second, CHAINS), random.split(third, CHAINS)
    found = [jax.device_get(run(*each)) for each in zip(*keys, starts, strict=True)]
    (draws, diverged, steps), before = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    clock()
    return _blackjax_result(name, draws, diverged, steps, before)


def blackjax_chees(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    """16 chains in lockstep, adapted together."""
    clock()
    first, second, third = random.split(random.key(seed), 3)
    log_density, starts, sites = density(name, data, random.split(first, CHEES_CHAINS))
    functions: dict[str, Any] = {}

    @jax.jit
    def warm(key: Any, starts: Any) -> Any:
        adaptation = blackjax.chees_adaptation(log_density, CHEES_CHAINS)
        optimizer = optax.adam(LEARNING_RATE)
        (states, parameters), info = adaptation.run(
            key, starts, FIRST_STEP, optimizer, WARMUP, max_sampling_steps=DRAWS
        )
        # A compiled function can return numbers only.
        functions.update({key: parameters.pop(key) for key in ("next_random_arg_fn", "integration_steps_fn")})
        return states, parameters, info.info.num_integration_steps.sum()

    @jax.jit
    def sample(key: Any, states: Any, parameters: Any) -> Any:
        kernel = jax.vmap(blackjax.dynamic_hmc(log_density, **parameters, **functions).step)

        def step(states: Any, key: Any) -> Any:
            states, info = kernel(random.split(key, CHEES_CHAINS), states)
            return states, (jax.vmap(sites)(states.position), info.is_divergent, info.num_integration_steps)

        return jax.lax.scan(step, states, random.split(key, DRAWS))[1]

    states, parameters, before = warm(second, starts)
    draws, diverged, steps = jax.device_get(sample(third, states, parameters))
    clock()
    by_chain = {site: np.swapaxes(value, 0, 1) for site, value in draws.items()}
    return _blackjax_result(name, by_chain, diverged, steps, np.asarray(before))


def _blackjax_result(name: str, draws: Any, diverged: Any, steps: Any, before: Any) -> dict[str, Any]:
    return {
        "parameters": PARAMETERS[name](draws),
        "gradients": int(steps.sum()),
        "warmup_gradients": int(before.sum()),
        "divergences": int(diverged.sum()),
    }
