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
from sklearn.naive_bayes import GaussianNB

from posterity.inference import arviz, diagnostics
from posterity.inference.diagnostics import (
    Recalibrator,
    auroc,
    average_precision,
    calibration_error,
    calibration_tests,
    class_calibration_error,
    compare,
    component_information,
    convergence_report,
    coverage,
    crps_from_draws,
    ecdf_band,
    elpd_heldout,
    energy_score,
    fpr_at_tpr,
    function_convergence,
    information_split,
    interval_score,
    lc2st,
    locate_divergences,
    loo,
    loo_pit,
    mahalanobis,
    nested_rhat,
    ood_detection,
    ood_scores,
    paired_difference,
    pit,
    pit_ecdf,
    posterior_predictive_check,
    power_sensitivity,
    pull_summary,
    pulls,
    refusal_curve,
    region_level,
    sbc,
    score_summary,
    scores,
    sharpness,
    split_shares,
    tarp,
    to_elpd,
    uniformity_test,
    variogram_score,
)

HERE = Path(__file__).parent
STORED, EXPECTED = HERE / "stored.nc", HERE / "expected.json"


def functions(data):
    """Draws of functions (chain, draw, points): the predictive ones."""
    return arviz.group(data, "posterior_predictive")["y"].values[..., :5]


def posterior(data):
    return arviz.group(data, "posterior")


def in_pairs(one, other):
    """Two randomisations of the same ranks, one after the other: enough values for the test that wants most."""
    return xr.concat([one, other], dim="obs")


def wider(data):
    """The same observations by a model of twice the noise."""
    values = arviz.group(data, "log_likelihood")["y"].astype(float)
    residual = -2 * values - math.log(2 * math.pi)
    log_likelihood = xr.Dataset({"y": -0.5 * (residual / 4 + math.log(8 * math.pi))})
    return arviz.from_groups({"posterior": posterior(data), "log_likelihood": log_likelihood})


def draws(data):
    """Predictive draws (400, 12), as an array."""
    return arviz.group(data, "posterior_predictive")["y"].values.reshape(400, 12).astype(float)


def observed(data):
    return arviz.group(data, "observed_data")["y"].values


def two_targets(data):
    """The same draws as those of 6 observations of two targets, and these."""
    return draws(data).reshape(400, 6, 2), observed(data).reshape(6, 2)


def classes(data):
    """Probabilities (50, 12, 3) of three classes."""
    values = np.exp(draws(data)[:150].reshape(50, 3, 12).swapaxes(1, 2))
    return values / values.sum(-1, keepdims=True)


def diverging(data):
    """(4, 100): where the energy is highest."""
    energy = arviz.group(data, "sample_stats")["energy"].values
    return energy > np.quantile(energy, 0.9)


def refits(data):
    """Twelve truths with 400 draws each, as `refit` returns them."""
    return xr.Dataset(
        {
            "truth": (("simulation", "quantity"), observed(data)[:, None]),
            "draws": (("simulation", "draw", "quantity"), draws(data).T[..., None]),
        },
        coords={"quantity": ["y"]},
    )


def scaled(data):
    """With the log prior of the mean."""
    values = posterior(data)["mean"]
    groups = {"posterior": posterior(data), "log_likelihood": arviz.group(data, "log_likelihood")}
    return arviz.from_groups({**groups, "log_prior": xr.Dataset({"mean": -0.5 * (values - 1) ** 2})})


def amortised(data):
    """One draw for each of the twelve data, and fifty at one observation."""
    return draws(data)[0], draws(data)[:50, :1, None]


def strangers(data):
    """Scores of the same classes, and of some that nobody is sure of."""
    flat = 0.1 * classes(data) + 0.3
    return ood_scores(classes(data)), ood_scores(flat)


def recalibrated(data):
    """By 30 draws of each column as a calibration split."""
    rows = draws(data)[100:].reshape(-1)[:360]
    found = Recalibrator.fit(np.repeat(draws(data)[:100], 30, axis=1), rows)
    return xr.merge([found.recalibrated_pit(data), xr.Dataset({"map": ("at", found.icdf([0.1, 0.5, 0.9]))})])


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
    "pit_arrays": lambda data: pit(draws(data), observed(data), seed=3),
    "uniformity_test": lambda data: uniformity_test(pit(data, seed=3), ("ks", "ad", "chi2", "pot_c")),
    "berkowitz": lambda data: uniformity_test(in_pairs(pit(data, seed=3), pit(data, seed=4)), "berkowitz"),
    "ecdf_band": lambda data: ecdf_band(20),
    "pull_summary_by": lambda data: pull_summary(pulls(data), by=np.arange(12), bins=2),
    "pull_summary_bootstrap": lambda data: pull_summary(pulls(data), event=np.arange(12) // 2, resamples=50, seed=1),
    "coverage_by": lambda data: coverage(data, by="obs", bins=3, levels=[0.5, 0.9]),
    "region_level": lambda data: region_level(data, seed=2),
    "calibration_error": lambda data: calibration_error(data),
    "calibration_tests": lambda data: calibration_tests(data, seed=4),
    "sharpness": lambda data: sharpness(data),
    "mahalanobis": lambda data: mahalanobis(*two_targets(data), seed=5),
    "mahalanobis_normal": lambda data: mahalanobis(*two_targets(data), reference="normal"),
    "recalibrated": recalibrated,
    "interval_score": lambda data: interval_score(data),
    "energy_score": lambda data: energy_score(*two_targets(data)),
    "variogram_score": lambda data: variogram_score(*two_targets(data)),
    "scores_of_targets": lambda data: score_summary(energy_score(*two_targets(data))),
    "score_summary": lambda data: score_summary(scores(data)),
    "paired_difference": lambda data: paired_difference(scores(data), scores(data) + 0.1),
    "crps_from_draws": lambda data: xr.DataArray(crps_from_draws(draws(data), observed(data))),
    "posterior_predictive_check": lambda data: posterior_predictive_check(data),
    "convergence_report": lambda data: convergence_report(data, var_names=["mean"]).dataset,
    "locate_divergences": lambda data: locate_divergences(functions(data), diverging(data)),
    "information_split": lambda data: information_split(classes(data)),
    "component_information": lambda data: component_information(np.arange(12) % 3, np.arange(12) % 2, permutations=9),
    "class_calibration_error": lambda data: class_calibration_error(classes(data)[0], np.arange(12) % 3, bins=3),
    "ood_detection": lambda data: ood_detection(*strangers(data)),
    "auroc": lambda data: auroc(observed(data)[:6], observed(data)[6:]),
    "fpr_at_tpr": lambda data: xr.DataArray(fpr_at_tpr(observed(data)[:6], observed(data)[6:])),
    "average_precision": lambda data: xr.DataArray(average_precision(observed(data)[:6], observed(data)[6:])),
    "refusal_curve": lambda data: refusal_curve(observed(data), np.arange(12) % 2 == 0),
    "split_shares": lambda data: split_shares(
        xr.Dataset({name: ("obs", observed(data) ** 2) for name in ("noise", "ambiguity", "epistemic", "total")})
    ),
    "sbc": lambda data: sbc(refits(data), seed=6),
    "power_sensitivity": lambda data: power_sensitivity(scaled(data)),
    "lc2st": lambda data: lc2st(
        amortised(data),
        observed(data),
        observed(data)[:, None] + 0.5,
        [[0.5]],
        permutations=5,
        classifier=GaussianNB(),
        seed=8,
    ),
    "tarp": lambda data: tarp(draws(data)[..., None], observed(data)[:, None], seed=7),
}

# They take mixtures or models, which nobody without torch has; or are classes; ArviZ 1.x has no WAIC.
NEED_TORCH = {
    *("component_usage", "relabel", "label_order", "mixture_tests", "uncertainty_split", "crps_normal_mixture"),
    *("leave_one_out", "moment_matching", "elpd_kfold", "refit", "simulate", "prior_predictive_check"),
    *("ConvergenceReport", "Finding", "waic"),
}

# Optimisers stop within their tolerance, and not at the same place in every version of SciPy. The versions of ArviZ
# smooth the largest importance weights in their own ways.
TOLERANCE = {"compare": 1e-5, "compare_heldout": 1e-5, "power_sensitivity": 0.02}


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


def test_every_diagnostic_is_here_or_needs_torch():
    source = Path(__file__).read_text()
    missing = {name for name in diagnostics.__all__ if f"{name}(" not in source and f"{name}.fit(" not in source}
    assert missing == NEED_TORCH


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
