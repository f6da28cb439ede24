"""NumPyro's, BlackJAX's and nutpie's samplers for `panel.py`, with the settings that each library gives by default.

Everything is in float64, as the reference posteriors and our runs are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro
from _panel_models_jax import BUILDERS

jax.config.update("jax_enable_x64", True)


def numpyro_nuts(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    """4 chains of 1,000 + 1,000, one after another: what NumPyro's default, "parallel", does on one device."""
    model, args, parameters = BUILDERS[name](data)
    clock()
    kernel = numpyro.infer.NUTS(model)
    mcmc = numpyro.infer.MCMC(
        kernel, num_warmup=1000, num_samples=1000, num_chains=4, chain_method="sequential", progress_bar=False
    )
    mcmc.run(jax.random.key(seed), *args, extra_fields=("diverging", "num_steps"))
    draws = {site: np.asarray(value) for site, value in mcmc.get_samples(group_by_chain=True).items()}
    fields = mcmc.get_extra_fields(group_by_chain=True)
    clock()
    return {
        "parameters": parameters(draws),
        "gradients": int(fields["num_steps"].sum()),
        "divergences": int(fields["diverging"].sum()),
    }
