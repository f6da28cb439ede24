"""Expected log predictive densities: relative efficiency, WAIC, and ArviZ's `ELPDData` made and read."""

import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from posterity.inference import arviz as boundary
from tests.inference.arviz.cases import autoregressive


def test_the_relative_efficiency_is_that_of_the_posterior_and_one_for_a_single_chain():
    several = boundary.from_groups({"posterior": autoregressive(0.6).to_dataset()})
    assert boundary.relative_efficiency(several) == pytest.approx(0.25, rel=0.15)
    single = boundary.from_groups({"posterior": autoregressive(0.6).isel(chain=[0]).to_dataset()})
    assert boundary.relative_efficiency(single) == 1.0
    broken = boundary.from_groups({"posterior": autoregressive(0.6).to_dataset() * np.nan})
    with pytest.raises(ValueError, match="got reff=nan; pass reff"):
        boundary.relative_efficiency(broken)
    unchained = boundary.from_groups({"posterior": xr.Dataset({"w": ("draw", np.zeros(5))})})
    with pytest.raises(ValueError, match=r"a posterior with the dimensions chain and draw, got \('draw',\); pass reff"):
        boundary.relative_efficiency(unchained)


def log_likelihood_data(seed: int = 0) -> tuple[np.ndarray, object]:
    rng = np.random.default_rng(seed)
    y, mean = rng.normal(size=30), rng.normal(scale=30**-0.5, size=(4, 250, 1))
    values = stats.norm.logpdf(y, y.mean() + mean)
    data = {"posterior": {"mean": mean}, "log_likelihood": {"y": values, "z": values - 1}, "observed_data": {"y": y}}
    return values.reshape(1000, 30), boundary.from_arrays(**data, dims={"y": ["row"]})


def test_waic_is_the_textbook_formula_where_there_is_one():
    values, data = log_likelihood_data()
    if not boundary.HAS_INFERENCE_DATA:
        with pytest.raises(ValueError, match=r"expected ArviZ 0.23 for WAIC, got 1.*: use loo"):
            boundary.waic(data, var_name="y")
        return
    found = boundary.waic(data, var_name="y")
    penalty = values.var(0)
    expected = logsumexp(values, axis=0) - math.log(1000) - penalty
    np.testing.assert_allclose(found["elpd"], expected, rtol=1e-9)
    assert found["elpd"].dims == ("row",)
    np.testing.assert_allclose(found["p_waic"], penalty.sum(), rtol=1e-9)
    np.testing.assert_allclose(found["elpd_waic"], expected.sum(), rtol=1e-9)
    with pytest.raises(ValueError, match="expected var_name to be one of 'y', 'z', got None"):
        boundary.waic(data)


def test_an_elpd_is_read_back_as_it_was_made_and_so_is_that_of_arviz():
    rng = np.random.default_rng(0)
    elpd, k = (xr.DataArray(rng.normal(size=20), dims="row") for _ in range(2))
    back = boundary.read_elpd(boundary.elpd_data(elpd, n_samples=50, p=2.5, pareto_k=k, good_k=0.6))
    np.testing.assert_array_equal(back["elpd"], elpd)
    np.testing.assert_array_equal(back["pareto_k"], k)
    assert float(back["p"]) == 2.5
    assert back.attrs == {"num_draws": 50, "threshold": 0.6}
    assert "pareto_k" not in boundary.read_elpd(boundary.elpd_data(elpd, n_samples=50))
    _, data = log_likelihood_data()
    theirs = boundary.read_elpd(az.loo(data, pointwise=True, var_name="y"))
    assert theirs["elpd"].dims == ("row",)
    assert theirs.attrs["threshold"] == pytest.approx(1 - 1 / 3)
    assert boundary.read_elpd(elpd) is None
    with pytest.raises(ValueError, match="expected ELPDData made with pointwise=True"):
        boundary.read_elpd(az.loo(data, pointwise=False, var_name="y"))


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")  # ArviZ 0.23 with pandas 4
def test_held_out_scores_are_compared_by_arviz():
    """The better model first, their difference and its standard error as computed by hand."""
    rng = np.random.default_rng(0)
    scores = {name: xr.DataArray(rng.normal(mean, 1.0, 100), dims="row") for name, mean in (("a", -2), ("b", -1))}
    elpd = {name: boundary.elpd_data(value, n_samples=50) for name, value in scores.items()}
    table = az.compare(elpd, **({"method": "BB-pseudo-BMA"} if boundary.HAS_INFERENCE_DATA else {"round_to": "none"}))
    assert list(table.index) == ["b", "a"]
    column = "elpd_loo" if "elpd_loo" in table else "elpd"
    np.testing.assert_allclose(table.loc["a", column], scores["a"].sum(), rtol=1e-3)
    difference = (scores["b"] - scores["a"]).values
    np.testing.assert_allclose(abs(table.loc["a", "elpd_diff"]), difference.sum(), rtol=1e-2)
    np.testing.assert_allclose(table.loc["a", "dse"], np.sqrt(100 * difference.var()), rtol=5e-2)
