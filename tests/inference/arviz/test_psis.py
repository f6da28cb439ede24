"""Pareto-smoothed importance sampling of many observations at once, against ArviZ one by one."""

import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp

from posterity.inference import arviz as boundary

# Importance ratios as they come: from harmless to hopeless, ties of draws that a sampler repeated, rounded values.
RATIOS = {
    "equal but for rounding": lambda rng, s: 1e-9 * rng.normal(size=s),
    "light": lambda rng, s: 0.1 * rng.normal(size=s),
    "bounded": lambda rng, s: rng.uniform(size=s),
    "middle": lambda rng, s: rng.normal(size=s),
    "heavy": lambda rng, s: rng.exponential(0.9, size=s),
    "very heavy": lambda rng, s: 5 * rng.normal(size=s),
    "student": lambda rng, s: rng.standard_t(2, size=s),
    "repeated": lambda rng, s: np.repeat(rng.normal(size=s // 2 + 1), 2)[:s],
    "rounded": lambda rng, s: rng.normal(size=s).round(1),
}


@pytest.mark.parametrize("reff", [0.2, 1.0, 1.4])
@pytest.mark.parametrize("draws", [25, 100, 1000, 4000])
def test_smoothing_many_observations_at_once_is_arviz_one_by_one(draws, reff):
    rng = np.random.default_rng(draws)
    ratios = np.stack([make(rng, draws) for make in RATIOS.values()])
    log_weights, k = boundary.psislw(ratios, reff)
    np.testing.assert_allclose(logsumexp(log_weights, axis=1), 0, atol=1e-12)
    for name, ratio, found, shape in zip(RATIOS, ratios, log_weights, k, strict=True):
        with np.errstate(all="ignore"):
            if boundary.HAS_INFERENCE_DATA:
                expected, of_arviz = az.psislw(ratio, reff)
            else:
                expected, of_arviz = xr.DataArray(-ratio, dims="s").azstats.psislw(r_eff=reff, dim="s")
        assert shape == pytest.approx(float(of_arviz) if np.isfinite(of_arviz) else np.inf, rel=1e-9, abs=1e-9), name
        # Equal ratios may take each other's place.
        np.testing.assert_allclose(np.sort(found), np.sort(np.asarray(expected)), rtol=1e-9, atol=1e-9, err_msg=name)


def test_weights_whose_tail_cannot_be_fitted_stay_and_their_k_is_infinite():
    """In both versions: ArviZ 1.x raises for equal weights, and 0.23 calls a span beyond the floats a k of 0.04."""
    rng = np.random.default_rng(0)
    ratios = np.stack([np.zeros(1000), 400 * rng.normal(size=1000), rng.normal(size=1000)])
    log_weights, k = boundary.psislw(ratios)
    np.testing.assert_array_equal(np.isinf(k), [True, True, False])
    np.testing.assert_allclose(log_weights[0], -math.log(1000), rtol=1e-12)
    np.testing.assert_allclose(log_weights[1], ratios[1] - logsumexp(ratios[1]), rtol=1e-12)
    assert np.isinf(boundary.psislw(ratios[:, :20])[1]).all()


@pytest.mark.parametrize(
    ("ratios", "reff", "message"),
    [
        (np.array([[0.0, np.nan]]), 1.0, "expected finite log_ratios, got 1 of 2"),
        (np.array([[0.0, np.inf]]), 1.0, "expected finite log_ratios, got 1 of 2"),
        (np.zeros(5), 1.0, r"expected log_ratios of shape \(N, S\), got \(5,\)"),
        (np.zeros((1, 5), complex), 1.0, "expected real numbers as log_ratios, got complex128"),
        (np.ma.masked_all((1, 5)), 1.0, "expected log_ratios without a mask"),
        (np.zeros((1, 5)), 0.0, "expected reff to be a finite number above 0, got 0.0"),
        (np.zeros((1, 5)), "a", "expected reff to be a finite number above 0, got 'a'"),
    ],
)
def test_ratios_that_are_not_finite_are_refused(ratios, reff, message):
    with pytest.raises(ValueError, match=message):
        boundary.psislw(ratios, reff)
