"""R-hat, effective sample sizes, errors, intervals and E-BFMI of draws, against closed forms."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from posterity.inference import arviz as boundary
from tests.inference.arviz.cases import autoregressive

DRAWS = autoregressive(0.0)


def test_statistics_of_draws_agree_with_closed_forms():
    """An AR(1) of coefficient a is worth (1 - a)/(1 + a) of its draws; a tolerance is five of its errors."""
    draws = autoregressive(0.6)
    effective = 8000 * 0.4 / 1.6
    np.testing.assert_allclose(boundary.ess(draws, method="mean"), effective, rtol=0.15)
    np.testing.assert_allclose(boundary.mcse(draws), math.sqrt(1 / effective), rtol=0.1)
    assert float(boundary.rhat(draws).max()) < 1.01
    error = 5 * stats.norm.pdf(1.2816) ** -1 * math.sqrt(0.9 * 0.1 / (effective / 2))
    np.testing.assert_allclose(boundary.hdi(draws, 0.8), [[-1.2816, 1.2816]] * 3, atol=error)
    assert float(boundary.rhat(draws + xr.DataArray([0, 0, 0, 2.0], dims="chain")).min()) > 1.1
    # Steps of variance 2 (1 - a) in a variance of 1.
    np.testing.assert_allclose(boundary.bfmi(draws.isel(row=0, drop=True)), 0.8, rtol=0.1)


@pytest.mark.parametrize("function", [boundary.rhat, boundary.ess, boundary.mcse, lambda v: boundary.hdi(v, 0.5)])
def test_a_dataset_gives_a_dataset_and_an_array_an_array(function):
    draws = autoregressive(0.0)
    as_dataset, as_array = function(draws.to_dataset()), function(draws)
    assert isinstance(as_dataset, xr.Dataset)
    xr.testing.assert_equal(as_dataset["f"], as_array)
    assert as_array.dims[0] == "row"
    assert as_array.name == "f"


def test_methods_take_their_probabilities():
    draws = autoregressive(0.0)
    tail = boundary.ess(draws, method="tail")
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=(0.05, 0.95)), tail)
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=np.array([0.05, 0.95])), tail)
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=0.05), tail)
    np.testing.assert_allclose(boundary.ess(draws, method="quantile", prob=0.3), 8000, rtol=0.15)
    assert bool((boundary.ess(draws, method="local", prob=(0.0, 0.1)) > 4000).all())
    half = boundary.mcse(draws, method="quantile", prob=np.float64(0.5))
    xr.testing.assert_equal(half, boundary.mcse(draws, method="median"))


def test_an_energy_that_stands_still_has_no_bfmi():
    """0.1 has a variance in floats, by the rounding of its mean."""
    energy = autoregressive(0.0)[..., 0].copy()
    energy[1], energy[2] = 0.1, 3.0
    np.testing.assert_array_equal(boundary.bfmi(energy).isnull(), [False, True, True, False])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boundary.rhat(np.zeros((4, 10))), "dimensions chain and draw, got ndarray"),
        (lambda: boundary.ess(xr.DataArray(np.zeros((4, 10)), dims=("chain", "x"))), r"got \('chain', 'x'\)"),
        (lambda: boundary.rhat(DRAWS, method="x"), "expected method to be one of 'rank', 'split', .* got 'x'"),
        (lambda: boundary.rhat(DRAWS + 0j), "expected real numbers as f, got complex128"),
        (lambda: boundary.rhat(DRAWS.astype(str).to_dataset()), "expected real numbers as f, got <U"),
        (lambda: boundary.ess(DRAWS, method="x"), "expected method to be one of 'bulk', 'tail', 'mean', .* got 'x'"),
        (
            lambda: boundary.ess(DRAWS, method="quantile"),
            r"prob of length 1 with numbers in \[0, 1\] for method='quantile', got N",
        ),
        (lambda: boundary.ess(DRAWS, method="local", prob=0.5), "prob of length 2 .*'local', got 0.5"),
        (lambda: boundary.ess(DRAWS, method="mean", prob=0.5), "prob of length 0 .*'mean', got 0.5"),
        (lambda: boundary.ess(DRAWS, method="quantile", prob=1.5), "for method='quantile', got 1.5"),
        (lambda: boundary.ess(DRAWS, method="quantile", prob="a"), "for method='quantile', got 'a'"),
        (
            lambda: boundary.mcse(DRAWS, method="bulk"),
            "expected method to be one of 'mean', 'sd', 'median', 'quantile', got 'bulk'",
        ),
        (lambda: boundary.mcse(DRAWS, method="quantile"), "for method='quantile', got None"),
        (lambda: boundary.hdi(DRAWS, 94), r"expected prob to be a number in \(0, 1\), got 94"),
        (lambda: boundary.hdi(DRAWS, "a"), r"expected prob to be a number in \(0, 1\), got 'a'"),
        (lambda: boundary.bfmi(np.zeros((4, 10))), "dimensions chain and draw, got ndarray"),
        (lambda: boundary.bfmi(DRAWS[:, :1, 0]), "expected energy of at least 2 draws, got 1"),
        (lambda: boundary.bfmi(DRAWS[..., 0] + 0j), "expected real numbers as f, got complex128"),
        (
            lambda: boundary.bfmi(autoregressive(0.0)),
            r"expected energy with the dimensions chain and draw, got \('chain",
        ),
    ],
)
def test_statistics_of_something_else_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
