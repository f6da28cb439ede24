"""Every test starts from the same seed and an empty parameter store, and must leave global state alone."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pyro
import pytest
import torch

matplotlib.use("Agg")


def _global_state() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "Pyro's validation flag": pyro.settings.get("validate_distributions_pyro"),
        "torch's validation flag": torch.distributions.Distribution._validate_args,
        "gradient mode": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy state is what third-party code would read
    pyro.clear_param_store()
    before = _global_state()
    yield
    after = _global_state()
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    torch.set_default_dtype(before["default dtype"])
    torch.set_num_threads(before["number of threads"])
    torch.set_grad_enabled(before["gradient mode"])
    if changed:
        pytest.fail("the test changed global state: " + "; ".join(changed))
