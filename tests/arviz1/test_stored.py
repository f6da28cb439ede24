"""Every diagnostic of stored results gives the same numbers in ArviZ 0.23 and 1.x, without torch.

`stored.nc` and `expected.json` were written with ArviZ 0.23 by ``python tests/arviz1/test_stored.py``. After adding a
line to CASES run that again: it leaves the data as they are, and any number that has changed shows in the diff. The
data are those of a normal mean: 12 observations, one far out, and 4 chains of 100 draws, so that with reff = 1 the tail
of PSIS has 60 draws in both versions.
"""

import json
import math
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from posterity.inference import arviz
from posterity.inference.diagnostics import (
    coverage,
    elpd_heldout,
    function_convergence,
    nested_rhat,
    pit,
    pit_ecdf,
    pull_summary,
    pulls,
    scores,
)
from posterity.inference.diagnostics.comparison import compare, to_elpd
from posterity.inference.diagnostics.loo import loo
from posterity.inference.diagnostics.loo_pit import loo_pit

HERE = Path(__file__).parent
STORED, EXPECTED = HERE / "stored.nc", HERE / "expected.json"


def functions(data):
    """Draws of functions (chain, draw, points): the predictive ones."""
    return arviz.group(data, "posterior_predictive")["y"].values[..., :5]


def posterior(data):
    return arviz.group(data, "posterior")


def wider(data):
    """The same observations by a model of twice the noise."""
    values = arviz.group(data, "log_likelihood")["y"].astype(float)
    residual = -2 * values - math.log(2 * math.pi)
    log_likelihood = xr.Dataset({"y": -0.5 * (residual / 4 + math.log(8 * math.pi))})
    return arviz.from_groups({"posterior": posterior(data), "log_likelihood": log_likelihood})


# A name, and what is computed from the stored data: a Dataset, a DataArray or a table.
CASES = {
    "rhat": lambda data: arviz.rhat(posterior(data)),
    "ess_bulk": lambda data: arviz.ess(posterior(data)),
    "ess_tail": lambda data: arviz.ess(posterior(data), method="tail"),
    "ess_mean": lambda data: arviz.ess(posterior(data), method="mean"),
    "ess_quantile": lambda data: arviz.ess(posterior(data), method="quantile", prob=0.9),
    "mcse": lambda data: arviz.mcse(posterior(data)),
    "mcse_sd": lambda data: arviz.mcse(posterior(data), method="sd"),
    "mcse_quantile": lambda data: arviz.mcse(posterior(data), method="quantile", prob=0.9),
    "hdi": lambda data: arviz.hdi(posterior(data), 0.9),
    "bfmi": lambda data: arviz.bfmi(arviz.group(data, "sample_stats")["energy"]),
    "loo": lambda data: loo(data, reff=1.0),
    "loo_refitted": lambda data: loo(data, reff=1.0, refit=lambda n: -12.5),
    "loo_pit": lambda data: loo_pit(data, reff=1.0, seed=3),
    "compare": lambda data: compare({"one": loo(data, reff=1.0), "two": loo(wider(data), reff=1.0)}),
    "compare_bb": lambda data: compare(
        {"one": loo(data, reff=1.0), "two": loo(wider(data), reff=1.0)}, method="BB-pseudo-BMA"
    ),
    "compare_heldout": lambda data: compare({"one": elpd_heldout(data), "two": to_elpd(loo(wider(data), reff=1.0))}),
    "pit": lambda data: pit(data, seed=3),
    "pit_ecdf": lambda data: pit_ecdf(pit(data, seed=3)),
    "pulls": lambda data: pulls(data),
    "pull_summary": lambda data: pull_summary(pulls(data)),
    "coverage": lambda data: coverage(data),
    "scores": lambda data: scores(data),
    "function_convergence": lambda data: function_convergence(functions(data)),
    "nested_rhat": lambda data: nested_rhat(functions(data), 2),
}

# Optimisers stop within their tolerance, and not at the same place in every version of SciPy.
TOLERANCE = {"compare": 1e-5, "compare_heldout": 1e-5}


def numbers(result) -> dict[str, list]:
    """The numbers and words of a result by the names of its variables; a table's rows in its order."""
    if isinstance(result, xr.DataArray):
        result = result.to_dataset(name="value")
    if isinstance(result, xr.Dataset):
        return {str(name): np.ravel(value.values).tolist() for name, value in result.data_vars.items()}
    return {"model": list(result.index), **{name: result[name].tolist() for name in result.columns}}


@cache
def stored():
    return arviz.load(STORED)


def of_case(name: str) -> dict[str, list]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Pareto k of", UserWarning)
        return numbers(CASES[name](stored()))


@pytest.mark.parametrize("name", CASES)
def test_a_diagnostic_gives_the_stored_numbers(name):
    expected, found = json.loads(EXPECTED.read_text())[name], of_case(name)
    assert list(found) == list(expected)
    for variable, values in expected.items():
        if any(isinstance(value, str) for value in values):
            assert found[variable] == values
        else:
            np.testing.assert_allclose(found[variable], values, rtol=TOLERANCE.get(name, 1e-10), atol=1e-12)


def test_every_stored_number_has_its_case():
    assert list(json.loads(EXPECTED.read_text())) == list(CASES)


def write_data() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=12)
    y[7] = 6.0
    mean = y.mean() + rng.normal(size=(4, 100, 1)) / math.sqrt(12)
    log_likelihood = -0.5 * ((y - mean) ** 2 + math.log(2 * math.pi))
    data = arviz.from_arrays(
        posterior={"mean": mean[..., 0], "other": rng.standard_t(3, size=(4, 100, 2))},
        sample_stats={"energy": np.cumsum(rng.normal(size=(4, 100)), 1)},
        log_likelihood={"y": log_likelihood.astype(np.float32)},
        posterior_predictive={"y": rng.normal(mean, size=(4, 100, 12)).astype(np.float32)},
        observed_data={"y": y},
        dims={"y": ["obs"]},
        coords={"obs": np.arange(100, 112)},
    )
    arviz.save(data, STORED)


if __name__ == "__main__":
    if not STORED.exists():
        write_data()
    lines = [f"{json.dumps(name)}: {json.dumps(of_case(name))}" for name in CASES]
    EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
