"""Our samplers for `panel.py`, with their default settings; the Pyro models are those of the tests, as published."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posterity.inference import HMC, NUTS, infer
from posterity.inference.convergence import ConvergenceWarning

sys.path.insert(0, str(Path(__file__).parents[1]))  # the models are in the tests

from tests.inference.mcmc.reference_panel import panel_reference


def hmc(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    return _ours(name, seed, HMC(progress=False), clock)


def nuts(name: str, data: dict[str, Any], seed: int, clock: Callable[[], None]) -> dict[str, Any]:
    return _ours(name, seed, NUTS(progress=False), clock)


def _ours(name: str, seed: int, method: Any, clock: Callable[[], None]) -> dict[str, Any]:
    known = panel_reference(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        clock()
        posterior = infer(known.plain, *known.args, method=method, seed=seed)
        clock()
    draws = known.parameters(posterior.draws)
    attrs = posterior.attrs
    return {
        "parameters": {parameter: value.double().numpy() for parameter, value in draws.items()},
        "gradients": int(attrs["gradients"]) - int(attrs["warmup_gradients"]),
        "warmup_gradients": int(attrs["warmup_gradients"]),
        "divergences": int(posterior.sample_stats["diverging"].sum()),
        "warned": int(any(issubclass(warning.category, ConvergenceWarning) for warning in caught)),
        "warnings": str(attrs["warnings"]),
        "engine": str(attrs["engine"]),
    }
