import numpy as np
import pytest
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics import ecdf_band, pit_ecdf


def stays(n: int, band: xr.Dataset, repetitions: int, seed: int = 0) -> float:
    values = np.sort(np.random.default_rng(seed).random((repetitions, n)), axis=1)
    ecdf = (values[:, :, None] <= band["z"].values).sum(1) / n
    half = 0.5 / n
    return float(((ecdf > band["lower"].values - half) & (ecdf < band["upper"].values + half)).all(1).mean())


@pytest.mark.parametrize(("n", "prob"), [(10, 0.9), (50, 0.95), (250, 0.5)])
def test_probability_to_stay_inside_is_the_simulated_one(n, prob):
    band = ecdf_band(n, prob=prob)
    exact = band.attrs["simultaneous"]
    assert exact >= prob
    assert abs(stays(n, band, 4000) - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


def test_two_grid_points_by_hand():
    """One inner point: the band is the central interval of a binomial count."""
    band = ecdf_band(20, prob=0.9, points=2)
    low, high = 20 * float(band.lower[0]), 20 * float(band.upper[0])
    expected = stats.binom.cdf(high, 20, 0.5) - stats.binom.cdf(low - 1, 20, 0.5)
    assert band.attrs["simultaneous"] == pytest.approx(expected, rel=1e-10)
    assert expected >= 0.9


def test_simultaneous_is_close_to_nominal_for_many_observations():
    assert 0.95 <= ecdf_band(10_000).attrs["simultaneous"] < 0.951


def test_curve_of_uniform_values_stays_inside_and_of_narrow_predictives_does_not():
    uniform = np.random.default_rng(1).random(500)
    assert pit_ecdf(xr.Dataset({"pit": ("obs", uniform)})).attrs["outside"] == 0
    narrow = stats.norm.cdf(stats.norm.ppf(uniform) * 1.25)
    curve = pit_ecdf(xr.Dataset({"pit": ("obs", narrow)}))
    assert curve.attrs["outside"] > 0
    np.testing.assert_allclose(curve.ecdf, [(narrow <= z).mean() for z in curve.z.values])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "expected n to be a whole number of 2 or more, got 1"),
        ({"n": 10, "prob": 1.0}, r"expected prob to be a number in \(0, 1\), got 1.0"),
        ({"n": 10, "points": 1}, "expected points to be a whole number of 2 or more, got 1"),
        ({"n": 2.5}, "expected n to be a whole number of 2 or more, got 2.5"),
        ({"n": 10, "points": 2.5}, "expected points to be a whole number of 2 or more, got 2.5"),
        ({"n": 10, "prob": "0.9"}, r"expected prob to be a number in \(0, 1\), got '0.9'"),
        ({"n": 10, "prob": None}, r"expected prob to be a number in \(0, 1\), got None"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ecdf_band(**arguments)
