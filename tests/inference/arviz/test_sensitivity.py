import numpy as np
import pytest
import xarray as xr
from scipy import stats

from posterity.inference.arviz import psense
from tests.inference.arviz.power_cases import NOISE, PRIOR, PRIOR_MEAN, Y, even_draws, sensitivity

MEAN = xr.DataArray(even_draws(), dims=("chain", "draw"), name="mean", attrs={"unit": "m"})
DENSITIES = {
    "prior": MEAN.copy(data=stats.norm.logpdf(MEAN, PRIOR_MEAN, PRIOR)),
    "likelihood": MEAN.copy(data=stats.norm.logpdf(Y, MEAN.values[..., None], NOISE).sum(-1)),
}
DRAWS = xr.Dataset({"mean": MEAN, "places": MEAN * xr.DataArray([1.0, -2.0, 0.0], dims="place") + 3})


@pytest.mark.parametrize("component", ["prior", "likelihood"])
@pytest.mark.parametrize("delta", [0.01, 0.05])
def test_it_is_the_closed_form_of_a_normal_mean(component, delta):
    """On evenly spread draws, so that the difference is that of 4000 draws from an integral."""
    expected = sensitivity(delta)[component]
    found = psense(DRAWS, DENSITIES[component], component=component, delta=delta)
    np.testing.assert_allclose(found["mean"], expected, rtol=0.01)
    other = sensitivity(delta)[{"prior": "likelihood", "likelihood": "prior"}[component]]
    assert abs(other / expected - 1) > 0.05  # the test tells the components apart


def test_a_change_of_unit_changes_nothing_and_a_constant_has_the_sensitivity_0():
    found = psense(DRAWS, DENSITIES["prior"])
    np.testing.assert_allclose(found["places"][:2], float(found["mean"]), rtol=1e-9)
    assert float(found["places"][2]) == 0
    assert found["places"].dims == ("place",)
    assert found["mean"].attrs == {}
    flat = psense(DRAWS, xr.zeros_like(MEAN))
    assert (float(flat["mean"]), flat["places"].values.tolist()) == (0.0, [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"component": "posterior"}, "expected component to be one of 'prior', 'likelihood', got 'posterior'"),
        ({"delta": 0.0}, r"expected delta to be a number in \(0, 1\], got 0.0"),
        ({"log_density": MEAN * np.nan}, "expected finite log_density, got 4000 of 4000"),
        ({"draws": DRAWS * np.inf}, "expected finite draws of 'mean', got 4000 of 4000"),
        ({"log_density": MEAN[:, :6]}, "expected at least 25 draws for importance sampling, got 24"),
    ],
)
def test_bad_input_is_refused(changes, message):
    arguments = {"draws": DRAWS, "log_density": DENSITIES["prior"], **changes}
    with pytest.raises(ValueError, match=message):
        psense(arguments.pop("draws"), arguments.pop("log_density"), **arguments)
