"""Levels of regions are probabilities, and results over them keep the names of the observations."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics.sources.draws import source_of_draws
from posterity.inference.diagnostics.sources.levels import check_different_levels, check_levels, over_levels


@pytest.mark.parametrize("levels", [[], 0.5, [0.0], [1.0], [0.5, 90], [np.nan], [[0.5]]])
def test_levels_outside_of_zero_and_one_are_refused(levels):
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\), got"):
        check_levels(levels)


def test_levels_are_kept_in_their_order_and_each_may_stand_once():
    assert check_levels((0.9, 0.5, 0.9)).tolist() == [0.9, 0.5, 0.9]
    assert check_different_levels((0.9, 0.5)).tolist() == [0.9, 0.5]
    with pytest.raises(ValueError, match="expected levels to be different, got"):
        check_different_levels((0.9, 0.5, 0.9))


def test_each_level_has_its_row_over_the_observations():
    y = xr.DataArray(np.zeros(3), dims="station", coords={"station": ["a", "b", "c"]})
    source = source_of_draws(np.zeros((2, 3)), y, several=False)
    values = np.arange(6.0).reshape(2, 3)
    result = over_levels(source, {"width": values}, np.array([0.5, 0.9]), unit="m")
    np.testing.assert_array_equal(result.width.sel(level=0.9), values[1])
    assert float(result.width.sel(level=0.5, station="c")) == 2
    assert result.attrs["unit"] == "m"


def test_observations_over_a_dimension_level_are_refused():
    source = source_of_draws(np.zeros((2, 3)), xr.DataArray(np.zeros(3), dims="level"), several=False)
    with pytest.raises(ValueError, match="expected observations without a dimension or coordinate 'level'"):
        over_levels(source, {"width": np.zeros((1, 3))}, np.array([0.5]))
