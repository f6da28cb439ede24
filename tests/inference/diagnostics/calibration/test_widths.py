"""Widths of pulls: their errors hold for pulls of any distribution, of events, and in groups."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics import coverage, pull_summary, pulls
from posterity.inference.diagnostics.calibration.widths import width_error
from posterity.models.mixtures import Mixture

TRUTH = {"normal": 1.0, "t5": np.sqrt(5 / 3), "bimodal": np.sqrt(1 + 1.5**2), "uniform": np.sqrt(1 / 12)}


def values(pull, **others):
    return xr.Dataset({"pull": ("obs", np.asarray(pull, dtype=float))}, coords=others)


def draw(name, rng, shape):
    if name == "t5":
        return rng.standard_t(5, shape)
    if name == "uniform":
        return rng.random(shape)
    return rng.normal(size=shape) + (rng.choice([-1.5, 1.5], shape) if name == "bimodal" else 0.0)


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("n", [100, 300, 1000])
def test_the_true_width_lies_within_one_error_two_times_of_three(name, n):
    """2,000 repetitions, 66 to 70 % and 2 standard errors more (seed 1); with the error of normal pulls t has 51 %."""
    rng = np.random.default_rng(1)
    samples = draw(name, rng, (2000, n))
    error = np.array([width_error(sample) for sample in samples])
    off = np.abs(samples.std(1, ddof=1) - TRUTH[name])
    share, slack = (off <= error).mean(), 2 * np.sqrt(0.68 * 0.32 / 2000)
    assert 0.66 - slack < share < 0.70 + slack
    if name == "t5":
        assert (off <= samples.std(1, ddof=1) / np.sqrt(2 * (n - 1))).mean() < 0.6


def test_the_error_of_a_normal_width_is_the_known_one():
    normal = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    assert width_error(normal) == pytest.approx(1 / np.sqrt(2 * 99_999), rel=0.01)
    assert width_error(np.tile([-1.0, 1.0], 50)) < 0.01  # two points: a width that is sure


@pytest.mark.parametrize("name", ["normal", "t5", "bimodal"])
def test_the_robust_width_lies_within_its_error(name):
    """400 repetitions of 200 pulls, 3 standard errors (seed 2)."""
    rng, upper = np.random.default_rng(2), stats.norm.cdf(1.0)
    large = np.sort(draw(name, rng, 2_000_000))
    truth = 0.5 * (np.quantile(large, upper) - np.quantile(large, 1 - upper))
    inside = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(400):
            found = pull_summary(values(draw(name, rng, 200)))
            inside += abs(float(found.robust_width) - truth) <= float(found.robust_width_se)
    assert abs(inside / 400 - 0.683) < 3 * np.sqrt(0.68 * 0.32 / 400) + 0.02


def test_the_core_is_not_widened_by_tails_nor_narrowed_by_the_cut():
    """95 % N(0, 1) and 5 % four times as wide, 40,000 pulls: the core by 3 errors and what is left of the tails."""
    rng = np.random.default_rng(3)
    pull = rng.normal(size=40_000) * np.where(rng.random(40_000) < 0.05, 4.0, 1.0)
    found = pull_summary(values(pull))
    assert float(found.width) > 1.25
    assert 1.0 < float(found.core_width) < 1.05
    clean = pull_summary(values(rng.normal(size=40_000)))
    assert abs(float(clean.core_width) - 1) < 3 * float(clean.core_width_se)
    cut = pull[np.abs(pull) < 2]
    assert cut.std() < 0.93  # what a truncated root mean square would say


def test_the_error_of_the_core_holds():
    """300 repetitions of 400 pulls, 3 standard errors (seed 4)."""
    rng = np.random.default_rng(4)
    off = [
        (float(found.core_width) - 1) / float(found.core_width_se)
        for found in (pull_summary(values(rng.normal(size=400))) for _ in range(300))
    ]
    assert abs((np.abs(off) <= 1).mean() - 0.683) < 3 * np.sqrt(0.68 * 0.32 / 300)


def test_pulls_without_a_peak_have_no_core_and_say_so():
    rng = np.random.default_rng(5)
    with pytest.warns(UserWarning, match="core_width is nan: the pulls have no peak in the middle"):
        found = pull_summary(values(rng.beta(0.4, 0.4, 500)))
    assert np.isnan(found.core_width)
    assert np.isnan(pull_summary(values(rng.normal(size=15))).core_width)


@pytest.mark.parametrize("name", ["normal", "t5"])
def test_bootstrap_errors_are_those_of_many_samples(name):
    rng = np.random.default_rng(6)
    samples = draw(name, rng, (4000, 500))
    truth = samples.std(1, ddof=1).std()
    found = pull_summary(values(samples[0]), errors="bootstrap", resamples=400, seed=1)
    assert float(found.width_se) == pytest.approx(truth, rel=0.35 if name == "t5" else 0.15)
    assert float(found.mean_se) == pytest.approx(samples.mean(1).std(), rel=0.15)
    again = pull_summary(values(samples[0]), errors="bootstrap", resamples=400, seed=1)
    xr.testing.assert_identical(found, again)


def test_pulls_of_one_event_are_resampled_together():
    """Five equal pulls an event: the error of the mean is that of the events, sqrt(5) times that of the pulls."""
    rng = np.random.default_rng(7)
    event = np.repeat(np.arange(200), 5)
    pull = np.repeat(rng.normal(size=200), 5)
    alone, together = pull_summary(values(pull)), pull_summary(values(pull), event=event, seed=2)
    assert float(together.mean_se / alone.mean_se) == pytest.approx(np.sqrt(5), rel=0.12)
    assert together.attrs["errors"] == "bootstrap"
    uneven = rng.permutation(1000)[:777]
    by_name = pull_summary(values(pull[uneven], event=("obs", event[uneven])), event="event", seed=2)
    assert float(by_name.mean_se) > 1.7 * float(alone.mean_se)


def test_groups_are_those_by_themselves():
    rng = np.random.default_rng(8)
    x, pull = rng.random(1000), rng.normal(size=1000)
    pull[x > 0.75] *= 2
    binned = pull_summary(values(pull), by=x, bins=4)
    assert binned.sizes["group"] == 4
    np.testing.assert_array_equal(binned.n, 250)
    places = (x >= float(binned.low[3])) & (x <= float(binned.high[3]))
    assert float(binned.width[3]) == float(pull_summary(values(pull[places])).width)
    assert float(binned.width[3]) == pytest.approx(2, abs=0.3)
    side = np.where(x > 0.5, "right", "left")
    named = pull_summary(values(pull, side=("obs", side)), by="side")
    assert named.group.values.tolist() == ["left", "right"]
    assert float(named["mean"].sel(group="left")) == pytest.approx(pull[side == "left"].mean())


def test_ties_stay_in_one_bin():
    found = pull_summary(
        values(np.random.default_rng(9).normal(size=60)), by=np.r_[np.zeros(40), np.arange(1, 21)], bins=3
    )
    assert found.n.values.tolist() == [40, 20]


def test_coverage_by_group_sees_what_all_together_hide():
    """Too wide on the left, too narrow on the right, and right on average."""
    x = torch.linspace(-1, 1, 4000, dtype=torch.double)
    scale = torch.where(x < 0, 1.45, 0.72)[:, None]
    model = Mixture.normal(torch.zeros(4000, 1).double(), torch.zeros(4000, 1).double(), scale)
    torch.manual_seed(0)
    y = torch.randn(4000).double()
    whole, groups = (coverage(model, y, levels=[0.8], by=by) for by in (None, np.where(x < 0, "left", "right")))
    assert abs(float(whole.coverage[0]) - 0.8) < 0.02
    expected = 2 * stats.norm.cdf(stats.norm.ppf(0.9) * np.array([1.45, 0.72])) - 1
    error = np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(groups.coverage.sel(level=0.8).values - expected) < 4 * error).all()
    assert (groups.n == 2000).all()
    assert groups.coverage.dims == ("group", "level")
    bins = coverage(model, y, levels=[0.5, 0.9], by=x, bins=5)
    assert dict(bins.sizes) == {"group": 5, "level": 2}


def test_results_are_written_as_netcdf(tmp_path):
    pull = values(np.random.default_rng(10).normal(size=100))
    pull_summary(pull, by=np.arange(100) % 2 == 0).to_netcdf(tmp_path / "groups.nc", engine="h5netcdf")
    pull_summary(pull, errors="bootstrap").to_netcdf(tmp_path / "errors.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"errors": "jackknife"}, "expected errors to be one of 'moments', 'bootstrap', got 'jackknife'"),
        ({"errors": "bootstrap", "resamples": 1}, "expected resamples to be a whole number of 2 or more, got 1"),
        ({"by": np.zeros(3)}, "expected by with 100 values, one for each observation, got 3"),
        ({"by": "x"}, r"expected by to be one of \['pull'\], got 'x'"),
        ({"by": np.full(100, np.nan)}, "expected finite values of by, got 100 of 100"),
        ({"by": np.arange(100), "bins": 0}, "expected bins to be a whole number of 1 or more, got 0"),
        ({"by": np.arange(100), "bins": 40}, "expected at least 4 observations in each group, got . in .*; use fewer"),
        ({"event": np.zeros(100)}, "expected at least 2 events to resample, got 1"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pull_summary(values(np.random.default_rng(0).normal(size=100)), **arguments)


def test_few_and_equal_pulls():
    with pytest.raises(ValueError, match="expected at least 2 pulls, got 1"):
        pull_summary(values([0.3]))
    with pytest.raises(ValueError, match=r"expected pulls that differ, got 2 times 1\.0"):
        pull_summary(values([1.0, 1.0]))
    assert np.isnan(pull_summary(values([1.0, 2.0, 4.0])).width_se)


def test_moment_pulls_of_draws_are_wider_by_a_known_factor():
    """20 draws: sqrt((1 + 1/S)(S - 1)/(S - 3)) = 1.083; 30,000 pulls, 4 errors (seed 11)."""
    rng = np.random.default_rng(11)
    found = pull_summary(pulls(rng.normal(size=(20, 30_000)), rng.normal(size=30_000), kind="moment"))
    assert abs(float(found.width) - np.sqrt((1 + 1 / 20) * 19 / 17)) < 4 * float(found.width_se)


def test_groups_are_those_of_the_same_observations():
    pulls = xr.Dataset({"pull": ("obs", np.random.default_rng(0).normal(size=20))}, coords={"obs": np.arange(20)})
    by = xr.DataArray(np.repeat(["a", "b"], 10), dims="obs", coords={"obs": np.arange(20)[::-1]})
    with pytest.raises(ValueError, match="expected by with the coordinates 'obs' of the observations, got others"):
        pull_summary(pulls, by=by)
    assert pull_summary(pulls, by=by.assign_coords(obs=np.arange(20))).group.values.tolist() == ["a", "b"]
    for wrong in (np.array([1, 2, "a", *range(17)], dtype=object), np.ones(20) * 1j, np.array([None] * 20)):
        with pytest.raises(ValueError, match="expected by to hold numbers, booleans, dates or text, got"):
            pull_summary(pulls, by=wrong)
    with pytest.raises(ValueError, match=r"expected bins to be a whole number of 1 or more, got 2.5"):
        pull_summary(pulls, by=np.arange(20), bins=2.5)
