import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from posterity.inference.arviz import HAS_INFERENCE_DATA, from_arrays, from_groups, group, psislw, relative_efficiency
from posterity.inference.diagnostics import pit, pit_ecdf, uniformity_test
from posterity.inference.diagnostics.scoring.loo_pit import loo_pit


def fitted(y: np.ndarray, seed: int = 0, draws: int = 1000) -> object:
    """A normal mean under a flat prior, from its exact posterior N(mean of y, 1/N) in 4 chains."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(y.mean(), len(y) ** -0.5, (4, draws, 1))
    return from_arrays(
        posterior={"mean": mean[..., 0]},
        log_likelihood={"y": stats.norm.logpdf(y, mean)},
        posterior_predictive={"y": rng.normal(mean, size=(4, draws, len(y)))},
        observed_data={"y": y},
        dims={"y": ["row"]},
        coords={"row": np.arange(100, 100 + len(y))},
    )


Y = np.random.default_rng(2).normal(size=12)


def effective(data: object) -> np.ndarray:
    """How many draws the weights of each observation are worth."""
    values = group(data, "log_likelihood")["y"].values.reshape(-1, len(Y)).T
    return 1 / np.exp(2 * psislw(-values, relative_efficiency(data))[0]).sum(1)


def test_it_is_exact_for_a_normal_mean_and_the_pit_of_the_fit_is_not():
    """Over 16 sets of draws: within 5 standard errors at every row, and the fit's own PIT leans to 1/2 by more."""
    rest = (Y.sum() - Y) / (len(Y) - 1)
    exact = stats.norm.cdf(Y, rest, math.sqrt(1 + 1 / (len(Y) - 1)))
    sets = [fitted(Y, seed) for seed in range(16)]
    found = np.array([loo_pit(data, seed=seed).pit for seed, data in enumerate(sets)])
    error = found.std(0, ddof=1) / 4
    assert (np.abs(found.mean(0) - exact) / error).max() < 5
    plain = np.mean([pit(data, seed=seed).pit for seed, data in enumerate(sets)], axis=0)
    far = np.abs(exact - 0.5) > 0.2
    assert (np.abs(plain - 0.5) < np.abs(exact - 0.5))[far].all()
    assert (np.abs(plain - exact) / error).max() > 5


def test_it_is_arvizs_own_up_to_the_share_of_one_draw():
    data = fitted(Y)
    theirs = az.loo_pit(data, y="y") if HAS_INFERENCE_DATA else az.loo_pit(data, var_names="y")["y"]
    mine = loo_pit(data)
    assert (np.abs(mine.pit - theirs) <= 1 / (1 + effective(data))).all()
    np.testing.assert_allclose(mine.pit + mine.pit_sf, 1, rtol=1e-12)
    assert mine.pit.dims == ("row",)
    assert int(mine.row[0]) == 100


@pytest.mark.filterwarnings("ignore:Pareto k of 200 of 200")
def test_with_equal_weights_it_is_the_randomised_rank_for_counts_too():
    rng = np.random.default_rng(0)
    data = from_arrays(
        posterior={"rate": np.full((1, 30), 2.0)},
        log_likelihood={"y": np.full((1, 30, 200), -1.0)},
        posterior_predictive={"y": rng.poisson(2.0, (1, 30, 200))},
        observed_data={"y": rng.poisson(2.0, 200)},
    )
    mine, plain = loo_pit(data, seed=3), pit(data, seed=3)
    np.testing.assert_allclose(mine.pit, plain.pit, rtol=1e-12)
    np.testing.assert_allclose(mine.pit_sf, plain.pit_sf, rtol=1e-12)


def test_it_says_that_its_values_depend_on_each_other():
    y = np.random.default_rng(1).normal(size=100)
    found = loo_pit(fitted(y))
    assert found.attrs["dependent"] == 1
    assert float(uniformity_test(found, "pot_c").p_value) > 0.01
    with pytest.raises(ValueError, match="expected test 'pot_c' for values that depend on each other"):
        uniformity_test(found, "ks")
    assert pit_ecdf(found).attrs["outside"] == 0
    narrow = fitted(2 * y)
    assert float(uniformity_test(loo_pit(narrow), "pot_c").p_value) < 0.01


def test_blocks_of_rows_change_nothing_and_an_influential_row_is_reported(monkeypatch, tmp_path):
    y = np.where(np.arange(12) == 3, 9.0, Y)
    with pytest.warns(UserWarning, match="Pareto k of 1 of 12 observations"):
        whole = loo_pit(fitted(y))
    assert whole.pareto_k.values.argmax() == 3
    assert whole.attrs["n_bad"] == 1
    monkeypatch.setattr("posterity.inference.diagnostics.scoring._psis.BLOCK", 5 * 4000)
    with pytest.warns(UserWarning, match="Pareto k"):
        xr.testing.assert_identical(loo_pit(fitted(y)), whole)
    whole.to_netcdf(tmp_path / "pit.nc", engine="h5netcdf")


def without(name: str) -> object:
    data = fitted(Y)
    names = ("posterior", "log_likelihood", "posterior_predictive", "observed_data")
    return from_groups({other: group(data, other) for other in names if other != name})


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (Y, {}, "expected ArviZ data .* got ndarray"),
        (without("posterior"), {}, "a group 'posterior', got groups"),
        (without("log_likelihood"), {}, "expected ArviZ data with a log_likelihood of the variable, got groups"),
        (without("posterior_predictive"), {}, "a group 'posterior_predictive', got groups"),
        (without("observed_data"), {}, "a group 'observed_data', got groups"),
        (fitted(Y), {"var_name": "z"}, "expected var_name to be one of 'y', got 'z'"),
        (fitted(Y), {"reff": -1.0}, "expected reff to be a finite number above 0, got -1.0"),
        (fitted(Y), {"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused(data, settings, message):
    with pytest.raises(ValueError, match=message):
        loo_pit(data, **settings)
