"""Dimensions and coordinates of draws and observations have to agree, and are kept."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics import pit
from posterity.inference.diagnostics.sources.labels import is_named, observations, require_same
from tests.inference.diagnostics.cases import bimodal

Y = xr.DataArray(np.zeros(3), dims="station", coords={"station": ["a", "b", "c"]})
DRAWS = Y.expand_dims(sample=4)


def test_names_are_those_of_draws_or_of_y():
    for draws, y in ((DRAWS, Y), (DRAWS, np.zeros(3)), (np.zeros((4, 3)), Y), (DRAWS, None)):
        template = observations(draws, y, 3)
        assert template.dims == ("station",)
        assert template.station.values.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(template, 0)


def test_without_a_name_the_dimension_is_obs():
    assert observations(np.zeros((4, 3)), np.zeros(3), 3).dims == ("obs",)
    assert observations(xr.DataArray(np.zeros((4, 3))), xr.DataArray(np.zeros(3)), 3).dims == ("obs",)


def test_of_two_named_arrays_the_one_with_coordinates_is_taken():
    assert "station" in observations(DRAWS.drop_vars("station"), Y, 3).coords
    assert "station" in observations(DRAWS, Y.drop_vars("station"), 3).coords


def test_several_targets_keep_the_names_of_the_observations_alone():
    template = observations(None, Y.expand_dims(target=2, axis=1), 3)
    assert template.dims == ("station",)


@pytest.mark.parametrize("names", [["a", "b", "d"], ["c", "b", "a"]], ids=["others", "another order"])
def test_coordinates_that_differ_are_refused(names):
    with pytest.raises(ValueError, match=r"expected y with the coordinates 'station' of the draws, got others \(\['"):
        observations(DRAWS, Y.assign_coords(station=names), 3)


def test_dimensions_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"expected y over the dimensions \('station',\) of the draws, got \('x',\)"):
        require_same("y", Y.rename(station="x"), "the draws", Y)


def test_a_dimension_of_xarrays_own_numbering_is_not_named():
    assert not is_named("dim_0")
    assert not is_named("dim_12")
    assert is_named("dim")
    assert is_named("w_dim_0")


def test_names_of_y_are_kept_with_a_mixture_too():
    y = xr.DataArray(np.zeros(9), dims="day", coords={"day": np.arange(9) + 100})
    found = pit(bimodal(9), y)
    assert found.pit.dims == ("day",)
    np.testing.assert_array_equal(found.day, y.day)
    with pytest.raises(ValueError, match="expected y without a mask, got a masked array"):
        pit(bimodal(9), np.ma.masked_array(np.zeros(9), np.arange(9) < 2))
