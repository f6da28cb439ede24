"""nutpie for `panel.py`: PyMC models compiled by numba, and where there is none, NumPyro's log density compiled by JAX.

Settings are nutpie's own (6 chains of 400 + 1,000).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import nutpie
import pymc as pm
from _panel_draws import PARAMETERS
from _panel_models_pymc import BUILDERS


def sample(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    if name in BUILDERS:
        with pm.Model() as model:
            BUILDERS[name](data)
        clock()
        compiled = nutpie.compile_pymc_model(model)
    else:
        clock()
        compiled = from_jax(name, data)
    trace = nutpie.sample(compiled, seed=seed, progress_bar=False)
    clock()
    draws = {site: np.asarray(value) for site, value in trace.posterior.items()}
    return {
        "parameters": PARAMETERS[name](draws),
        "gradients": int(trace.sample_stats["n_steps"].sum()),
        "warmup_gradients": int(trace.warmup_sample_stats["n_steps"].sum()),
        "divergences": int(trace.sample_stats["diverging"].sum()),
        "compiled_by": "numba" if name in BUILDERS else "jax",
    }


def from_jax(name: str, data: dict[str, Any]) -> Any:
    """NumPyro's log density of a vector and its gradient, compiled by JAX and called by nutpie for every step."""
    import jax
    from _panel_peers import density
    from nutpie.compiled_pyfunc import from_pyfunc

    log_density, starts, sites = density(name, data, jax.random.split(jax.random.key(0), 1))
    gradient, expand = jax.jit(jax.value_and_grad(log_density)), jax.jit(sites)
    shapes = {site: np.shape(value) for site, value in expand(starts[0]).items()}

    def make_log_density() -> Callable[..., Any]:
        def call(vector: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = gradient(vector)
            return float(value), np.asarray(slope)

        return call

    def make_expand(*_: Any) -> Callable[..., Any]:
        return lambda vector: {site: np.asarray(value) for site, value in expand(vector).items()}

    kinds = [np.dtype(float)] * len(shapes)
    return from_pyfunc(starts.shape[1], make_log_density, make_expand, kinds, list(shapes.values()), list(shapes))
