"""Recalibration: right again on fresh data, by theorem whatever the model."""

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference.diagnostics import Recalibrator, coverage, pit, region_level, uniformity_test
from posterity.models.mixtures import Mixture

DOUBLE = {"dtype": torch.double}


def two_peaks(n, width=1.0):
    return Mixture.normal(
        torch.zeros(n, 2, **DOUBLE), torch.tensor([-3.0, 3.0], **DOUBLE), torch.tensor(width, **DOUBLE)
    )


def drawn(n, seed):
    torch.manual_seed(seed)
    return two_peaks(n).sample()


def test_a_narrow_predictive_is_uniform_after_recalibration():
    found = Recalibrator.fit(two_peaks(4000, 0.6), drawn(4000, 0))
    before = pit(two_peaks(2000, 0.6), drawn(2000, 1))
    after = found.recalibrated_pit(two_peaks(2000, 0.6), drawn(2000, 1))
    assert float(uniformity_test(before, "ad").p_value) < 1e-6
    assert float(uniformity_test(after, "ks").statistic) < 1.95 * np.sqrt(1 / 4000 + 1 / 2000)
    np.testing.assert_allclose(after.pit + after.pit_sf, 1.0)


def test_a_right_predictive_is_left_as_it_is():
    found = Recalibrator.fit(two_peaks(4000), drawn(4000, 2))
    u = np.linspace(0, 1, 101)
    assert np.abs(found.cdf(u) - u).max() < 1.95 / np.sqrt(4000)  # Kolmogorov's 99.9 %
    np.testing.assert_allclose(found.icdf(found.cdf(u)), u, atol=1e-12)


def test_the_map_is_that_of_the_closed_form():
    """Width .5 for 1: F(y) = Phi(2 y), so that the recalibrated quantiles are those of N(0, 1)."""
    n = 20_000
    model = Mixture.normal(torch.zeros(n, 1, **DOUBLE), torch.zeros(n, 1, **DOUBLE), torch.full((n, 1), 0.5, **DOUBLE))
    torch.manual_seed(3)
    found = Recalibrator.fit(model, torch.randn(n, **DOUBLE))
    levels = np.array([0.05, 0.25, 0.5, 0.84])
    expected = torch.distributions.Normal(0.0, 1.0).icdf(torch.as_tensor(levels)).numpy()
    density = np.exp(-0.5 * expected**2) / np.sqrt(2 * np.pi)
    error = np.sqrt(levels * (1 - levels) / n) / density
    assert (np.abs(found.quantiles(model[:1], levels)[:, 0] - expected) < 4 * error).all()
    sample = found.sample(model[:2], 4000, seed=1)
    assert sample.shape == (4000, 2)
    assert abs(sample[:, 0].std() - 1) < 4 * np.sqrt(1 / 8000) + 0.02


def test_coverage_of_fresh_data_is_exact_at_small_n():
    """Whatever the model, 20 observations suffice: P(fresh y below the q-quantile) = q, over calibration splits too."""
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(2000):
        values = rng.random(21) ** 3  # PIT of a wrong model
        found = Recalibrator(np.sort(values[:20]))
        below += values[20] <= found.icdf(6 / 21)
    assert abs(below / 2000 - 6 / 21) < 4 * np.sqrt((6 / 21) * (15 / 21) / 2000)


def test_highest_density_regions_hold_what_they_promise():
    found = Recalibrator.fit(two_peaks(2000, 0.6), drawn(2000, 4))
    fresh, model = drawn(4000, 5), two_peaks(4000, 0.6)
    raw = float(coverage(model, fresh, kind="hdi", levels=[0.8]).coverage[0])
    wanted = found.hdi_level(0.8)
    levels = region_level(model, fresh, kind="hdi", seed=1)["level"].values
    share = (levels <= wanted).mean()
    assert raw < 0.7
    assert abs(share - 0.8) < 4 * np.sqrt(0.16 / 4000 + 0.16 / 2000)
    region = found.hdi(model[:1], 0.8)
    assert region.level == 0.8
    assert float(region.probability[0]) == pytest.approx(wanted, abs=1e-6)
    inside = ((fresh[:, None] > region.lower[0]) & (fresh[:, None] < region.upper[0])).any(-1).double().mean()
    assert abs(float(inside) - share) < 0.02


def test_levels_of_several_targets():
    torch.manual_seed(6)
    loc, scale = torch.zeros(1000, 1, 2, **DOUBLE), torch.full((1000, 1, 2), 0.5, **DOUBLE)
    model = Mixture.multivariate_normal(torch.zeros(1000, 1, **DOUBLE), loc, scale)
    found = Recalibrator.fit(model, torch.randn(1000, 2, **DOUBLE))
    # Half of N(0, 1)² lies within r² = 2 log 2, where the model of width .5 has the level 1 - exp(-2 r²).
    expected = 1 - np.exp(-2 * 2 * np.log(2))
    slope = 4 * np.exp(-4 * np.log(2)) / np.exp(-np.log(2))
    assert abs(found.hdi_level(0.5) - expected) < 4 * slope * np.sqrt(0.25 / 1000) + 0.005
    with pytest.raises(ValueError, match="expected a recalibrator of one target"):
        found.cdf(0.5)


def test_too_small_a_split_promises_everything():
    found = Recalibrator(np.linspace(0.01, 0.99, 20), np.linspace(0.01, 0.99, 20))
    assert found.hdi_level(0.99) == 1.0
    assert found.hdi_level(20 / 21) == pytest.approx(0.99)
    with pytest.raises(ValueError, match="expected a calibration split of 99 observations or more"):
        found.hdi(two_peaks(3), 0.99)


def test_draws_are_recalibrated_too():
    rng = np.random.default_rng(7)
    y, draws = rng.normal(size=1000), 0.5 * rng.normal(size=(400, 1000))
    found = Recalibrator.fit(draws, y)
    fresh = rng.normal(size=1000)
    distance = float(uniformity_test(found.recalibrated_pit(draws, fresh), "ks").statistic)
    assert distance < 1.95 * np.sqrt(2 / 1000)  # 99.9 % of Kolmogorov's for two samples: the map is one of them
    assert float(uniformity_test(pit(draws, fresh), "ks").statistic) > 0.1
    low, high = found.quantiles(draws, [0.25, 0.75]).mean(1)
    error = np.sqrt(0.25 * 0.75 / 1000) / 0.318  # that of the map, over the normal density at its quartiles
    assert np.abs(np.array([-low, high]) - 0.674).max() < 4 * error
    with pytest.raises(ValueError, match="expected a recalibrator fitted to a mixture"):
        found.hdi_level(0.5)


def test_it_is_written_and_read(tmp_path):
    found = Recalibrator.fit(two_peaks(50), drawn(50, 8))
    found.to_dataset().to_netcdf(tmp_path / "map.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "map.nc", engine="h5netcdf") as dataset:
        again = Recalibrator.from_dataset(dataset.load())
    np.testing.assert_array_equal(again.pit, found.pit)
    assert again.hdi_level(0.5) == found.hdi_level(0.5)


def test_bad_input_is_refused():
    model, y = two_peaks(50), drawn(50, 9)
    found = Recalibrator.fit(model, y)
    with pytest.raises(ValueError, match="expected observations outside the calibration split"):
        found.recalibrated_pit(model, y)
    with pytest.raises(ValueError, match="expected a calibration split of at least 20 observations"):
        Recalibrator.fit(two_peaks(10), drawn(10, 9))
    with pytest.raises(ValueError, match="expected sorted values of pit"):
        Recalibrator(np.linspace(1, 0, 30))
    with pytest.raises(ValueError, match=r"expected probabilities to be numbers in \[0, 1\], got \[1.5\]"):
        found.icdf([1.5])
    with pytest.raises(ValueError, match=r"expected level to be a number in \(0, 1\), got 1"):
        found.hdi_level(1)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N\), got \(3,\)"):
        found.quantiles(np.zeros(3), [0.5])
    with pytest.raises(ValueError, match="expected a Mixture, got ndarray"):
        found.hdi(np.zeros((3, 3)), 0.5)
    with pytest.raises(ValueError, match="expected draws to be a whole number of 1 or more, got 0"):
        found.sample(model, 0)
    with pytest.raises(ValueError, match="expected a Dataset with 'pit' or 'level'"):
        Recalibrator.from_dataset(xr.Dataset())


def test_intervals_of_few_draws_hold_what_they_promise():
    """20 draws of a right model: 80 % intervals, 4 standard errors (seed 10); by other quantiles they hold 72 %."""
    rng = np.random.default_rng(10)
    found = Recalibrator.fit(rng.normal(size=(20, 4000)), rng.normal(size=4000))
    y, draws = rng.normal(size=4000), rng.normal(size=(20, 4000))
    low, high = found.quantiles(draws, [0.1, 0.9])
    assert abs(((low < y) & (y < high)).mean() - 0.8) < 4 * np.sqrt(0.16 / 4000 + 0.16 / 4000)


def test_quantiles_beyond_what_the_model_can_say_are_infinite_and_said():
    model = Mixture.normal(torch.zeros(100, 1, **DOUBLE), torch.zeros(100, 1, **DOUBLE), torch.ones(100, 1, **DOUBLE))
    y = torch.cat([torch.linspace(-2, 2, 90, **DOUBLE), torch.full((10,), 120.0, **DOUBLE)])
    with pytest.warns(UserWarning, match="1 of 2 quantiles are infinite"):
        found = Recalibrator.fit(model, y).quantiles(model[:1], [0.5, 0.97])
    assert np.isfinite(found[0, 0])
    assert np.isinf(found[1, 0])


def test_quantiles_beyond_the_outermost_draw_are_said():
    rng = np.random.default_rng(12)
    found = Recalibrator.fit(0.5 * rng.normal(size=(19, 400)), rng.normal(size=400))
    with pytest.warns(UserWarning, match="2 of 3 quantiles lie beyond the outermost of 19 draws"):
        found.quantiles(0.5 * rng.normal(size=(19, 3)), [0.05, 0.5, 0.95])
    with pytest.raises(ValueError, match="expected finite draws, got 1 of 6"):
        found.quantiles(np.array([[0.0, 1, 2], [3, 4, np.nan]]), [0.5])
    with pytest.raises(ValueError, match=r"expected probabilities of shape \(Q,\), got \(1, 2\)"):
        found.quantiles(np.zeros((3, 2)), [[0.1, 0.2]])
    with pytest.raises(ValueError, match="expected real numbers as draws, got complex128"):
        found.quantiles(np.zeros((3, 2), complex), [0.5])
    with pytest.raises(ValueError, match="expected pit as an array of floats, got list"):
        Recalibrator([0.1] * 30)
