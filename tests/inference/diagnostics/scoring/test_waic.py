"""WAIC by the textbook formula, its error that of leave-one-out."""

import math

import numpy as np
import pytest

from posterity.inference import arviz
from posterity.inference.diagnostics import loo, waic

pytestmark = pytest.mark.skipif(not arviz.HAS_INFERENCE_DATA, reason="ArviZ 1.x has no WAIC")


def stored(n, draws=400):
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=n), rng.normal(scale=0.1, size=(2, draws, 1))
    density = -0.5 * (y - mean) ** 2 - 0.5 * math.log(2 * math.pi)
    return density, arviz.from_arrays(posterior={"mean": mean}, log_likelihood={"y": density})


def test_its_error_is_that_of_leave_one_out():
    density, data = stored(30)
    found, left_out = waic(data), loo(data)
    elpd = np.log(np.exp(density).mean((0, 1))) - density.var((0, 1))
    np.testing.assert_allclose(found.elpd, elpd, rtol=1e-9)
    assert float(found.se) == pytest.approx(math.sqrt(30) * elpd.std(ddof=1), rel=1e-9)
    assert float(found.se) == pytest.approx(float(left_out.se), rel=0.01)


def test_what_cannot_be_judged_is_refused_or_nan():
    with pytest.warns(UserWarning, match="the error of a single observation is nan"):
        assert np.isnan(waic(stored(1)[1]).se)
    density, _ = stored(3)
    density[0, 0, 0] = -np.inf
    bad = arviz.from_arrays(posterior={"mean": density[..., 0]}, log_likelihood={"y": density})
    with pytest.raises(ValueError, match=r"expected finite log_likelihood\['y'\], got 1 of"):
        waic(bad)
    one = arviz.from_arrays(posterior={"mean": np.zeros((1, 1))}, log_likelihood={"y": np.zeros((1, 1, 3))})
    with pytest.raises(ValueError, match="expected at least 2 draws"):
        waic(one)
