import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics.checks.predictive_check import posterior_predictive_check
from posterity.inference.diagnostics.sources.mixture_targets import replicates
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

DEFAULTS = ["mean", "sd", "min", "max", "skewness", "q05", "q95"]


def fitted_normal(y: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Replicated data of the posterior of a normal of unknown mean and width, flat prior: (draws, N)."""
    rng = np.random.default_rng(seed)
    n = len(y)
    variance = (n - 1) * y.var(ddof=1) / rng.chisquare(n - 1, draws)
    loc = y.mean() + np.sqrt(variance / n) * rng.normal(size=draws)
    return loc[:, None] + np.sqrt(variance)[:, None] * rng.normal(size=(draws, n))


def test_a_model_without_skew_is_caught_on_skewed_data():
    y = np.random.default_rng(0).gamma(2.0, size=150)
    result = posterior_predictive_check(fitted_normal(y, 1000, 1), y)
    assert result.statistic.values.tolist() == DEFAULTS
    p_value = result.p_value.to_series()
    assert p_value["skewness"] < 0.005
    assert p_value["min"] < 0.005
    # What its own parameters fit cannot look wrong.
    assert p_value["mean"] > 0.5
    assert p_value["sd"] > 0.5
    assert float(result.upper_tail.sel(statistic="min")) < 0.005


def test_p_values_of_a_right_model_are_uniform_on_new_data_and_conservative_on_its_own():
    """400 data sets of a normal; the mean, which is fitted, has p-values near 1 on the data of the fit."""
    rng = np.random.default_rng(2)
    new, own = [], []
    for seed in range(400):
        y = rng.normal(3, 2, 30)
        made = fitted_normal(y, 199, seed)
        new.append(posterior_predictive_check(made, rng.normal(3, 2, 30)).upper_tail.values)
        own.append(posterior_predictive_check(made, y).upper_tail.values)
    for place, name in enumerate(DEFAULTS):
        assert stats.kstest(np.array(new)[:, place], "uniform").pvalue > 0.001, name
    assert np.abs(np.array(own)[:, 0] - 0.5).max() < 0.25
    assert np.mean(np.array(own) < 0.05) < 0.04


def test_statistics_are_those_of_numpy_and_scipy():
    rng = np.random.default_rng(3)
    made, y = rng.gamma(3, size=(20, 40)), rng.gamma(3, size=40)
    result = posterior_predictive_check(made, y)
    rows = {
        "mean": made.mean(1),
        "sd": made.std(1),
        "min": made.min(1),
        "max": made.max(1),
        "skewness": stats.skew(made, axis=1),
        "q05": np.quantile(made, 0.05, axis=1),
        "q95": np.quantile(made, 0.95, axis=1),
    }
    for name, expected in rows.items():
        np.testing.assert_allclose(result.replicated.sel(statistic=name), expected, rtol=1e-12)
    above = (rows["max"] > y.max()).sum()
    assert float(result.upper_tail.sel(statistic="max")) == pytest.approx((above + 0.5) / 21)


def test_ties_are_split_and_counts_have_zeros():
    made = np.repeat([[0, 0, 1, 2], [0, 3, 1, 2], [1, 1, 1, 1]], [2, 4, 1], axis=0)
    result = posterior_predictive_check(made, np.array([0, 5, 1, 1])).sel(statistic="zeros")
    assert float(result.observed) == 0.25
    # Of seven, two have more zeros and four as many: (2 + 5/2) / 8.
    assert float(result.upper_tail) == 4.5 / 8
    assert float(result.p_value) == pytest.approx(7 / 8)


def test_own_statistics_with_an_axis_or_without():
    rng = np.random.default_rng(4)
    x = np.linspace(-1, 1, 30)
    made, y = rng.normal(size=(200, 30)), x + 0.5 * rng.normal(size=30)
    result = posterior_predictive_check(
        made, y, statistics={"median": np.median, "with x": lambda values: np.corrcoef(x, values)[0, 1]}
    )
    np.testing.assert_allclose(result.replicated.sel(statistic="median"), np.median(made, axis=1))
    assert float(result.p_value.sel(statistic="with x")) < 0.02
    assert float(result.observed.sel(statistic="with x")) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_replicates_of_a_posterior_share_its_draw():
    """The mean of N rows varies by what the draws differ, 4 + 1/N, and not by a part of it, (4 + 1)/N."""
    torch.manual_seed(5)
    loc = 2 * torch.randn(500, 1).double()
    draws = PredictiveMixture.from_draws(dist.Normal(loc.expand(500, 50), 1.0))
    y = torch.full((50,), 3.0).double()
    result = posterior_predictive_check(draws, y, statistics={"mean": np.mean}, draws=1000, seed=6)
    variance = float(loc.var(correction=0)) + 1 / 50
    # A kurtosis of 3 gives the sample variance of 1,000 an error of sqrt(2/1000) = 4.5 %.
    assert float(result.replicated.var()) == pytest.approx(variance, rel=4 * 0.045)
    assert float(result.p_value[0]) > 0.05
    independent = Mixture(draws.mixture_distribution, draws.component_distribution)
    apart = posterior_predictive_check(independent, y, statistics={"mean": np.mean}, draws=1000, seed=6)
    assert float(apart.p_value[0]) < 0.01


def test_replicates_take_draws_by_their_weights():
    loc = torch.tensor([[0.0], [10.0], [20.0]]).double().expand(3, 5)
    weights = torch.tensor([0.5, 0.2, 0.3]).double()
    draws = PredictiveMixture.from_draws(dist.Normal(loc, 0.1), weights.log())
    made = np.concatenate(list(replicates(draws, 100, seed=0)))
    assert made.shape == (100, 5)
    assert np.bincount(np.round(made[:, 0] / 10).astype(int)).tolist() == [50, 20, 30]
    assert np.ptp(made, axis=1).max() < 1


def test_replicates_of_components_are_mixed_within_a_draw(monkeypatch):
    """Two draws of two components each: in a replicate both components of one draw are seen, in blocks of rows too."""
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 64)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.mixture_targets.SETS", 400)
    components = dist.Normal(torch.tensor([[0.0, 1.0], [10.0, 11.0]]).double()[:, None].expand(2, 40, 2), 0.01)
    likelihood = dist.MixtureSameFamily(dist.Categorical(torch.ones(2, 40, 2).double()), components)
    draws = PredictiveMixture.from_draws(likelihood)
    parts = list(replicates(draws, 30, seed=1))
    assert len(parts) > 1
    made = np.round(np.concatenate(parts))
    for row in made:
        assert sorted(set(row)) in ([0.0, 1.0], [10.0, 11.0])
    assert (made[:, 0] < 5).sum() == 15


def test_arviz_data_give_what_their_arrays_give(tmp_path):
    rng = np.random.default_rng(7)
    made, y = rng.normal(size=(2, 30, 3, 4)), rng.normal(size=(3, 4))
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "day", "place"), made)}),
            "observed_data": xr.Dataset({"y": (("day", "place"), y)}),
        }
    )
    result = posterior_predictive_check(data)
    xr.testing.assert_allclose(result, posterior_predictive_check(made.reshape(60, 12), y.reshape(12)))
    result.to_netcdf(tmp_path / "check.nc", engine="h5netcdf")


def test_blocks_and_seeds(monkeypatch):
    draws = PredictiveMixture.from_draws(dist.Normal(torch.zeros(20, 8).double(), 1.0))
    y = torch.zeros(8).double()
    whole = posterior_predictive_check(draws, y, draws=50, seed=1)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.draws.SETS", 30)
    xr.testing.assert_allclose(posterior_predictive_check(draws, y, draws=50, seed=1), whole)
    assert not posterior_predictive_check(draws, y, draws=50, seed=2).equals(whole)


def test_bad_input_is_refused():
    made, y = np.random.default_rng(8).normal(size=(5, 4)), np.zeros(4)
    with pytest.raises(ValueError, match="expected at least one statistic, got none"):
        posterior_predictive_check(made, y, statistics={})
    with pytest.raises(ValueError, match=r"expected the statistic 'all' to be one number .* got shape \(5, 4\) for 5"):
        posterior_predictive_check(made, y, statistics={"all": lambda values: values})
    with pytest.raises(ValueError, match="expected finite values of the statistic 'log', got 5 of 5"):
        posterior_predictive_check(made, y, statistics={"log": lambda values: float("nan")})
    for statistics, message in (
        (np.mean, "expected statistics to be functions by name, got"),
        ([np.mean], "expected statistics to be functions by name, got list"),
        ({"mean": 3}, "expected the statistic 'mean' to be a function of data, got 3"),
        ({"root": lambda values: 1j}, "expected real numbers as values of the statistic 'root', got complex128"),
        ({"root": lambda values, axis: 1j * values.sum(axis)}, "values of the statistic 'root', got complex128"),
        ({"text": lambda values: "1.5"}, "expected real numbers as values of the statistic 'text', got <U3"),
        ({"none": lambda values: None}, "expected real numbers as values of the statistic 'none', got object"),
        ({"mask": lambda values: np.ma.masked}, "expected values of the statistic 'mask' without a mask"),
        ({"some": lambda values: values[values > 0]}, "'some' to be one number for a data set, got shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            posterior_predictive_check(made, y, statistics=statistics)
    with pytest.raises(ValueError, match="expected at least 2 draws, got 1"):
        posterior_predictive_check(made[:1], y)
    with pytest.raises(ValueError, match="expected at least 2 draws, got 1"):
        posterior_predictive_check(
            Mixture.normal(torch.zeros(4, 1), torch.zeros(4, 1), torch.ones(4, 1)), torch.zeros(4), draws=1
        )
    with pytest.raises(ValueError, match="expected y with an array of draws, got None"):
        posterior_predictive_check(made)
