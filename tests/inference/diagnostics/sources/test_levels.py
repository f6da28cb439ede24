"""Levels of regions, and results over them."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics.sources.levels import check_different_levels, check_levels, over_levels
from posterity.inference.diagnostics.sources.reading import read

SOURCE = read(np.zeros((5, 3)), np.zeros(3))


def test_levels_are_returned_in_their_order():
    np.testing.assert_array_equal(check_levels((0.9, 0.5)), [0.9, 0.5])
    np.testing.assert_array_equal(check_levels([0.5, 0.5]), [0.5, 0.5])


@pytest.mark.parametrize("levels", [[], [0.0], [1.0], [0.5, np.nan], 0.5, [[0.5]]])
def test_other_levels_are_refused(levels):
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\), got"):
        check_levels(levels)


def test_a_level_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"expected levels to be different, got \[0.5, 0.5\]"):
        check_different_levels([0.5, 0.5])


def test_variables_stand_over_levels_and_observations():
    found = over_levels(SOURCE, {"width": np.arange(6.0).reshape(2, 3)}, np.array([0.5, 0.9]), kind="central")
    assert found.width.dims == ("level", "obs")
    np.testing.assert_array_equal(found.width.sel(level=0.9), [3, 4, 5])
    assert found.attrs == {"kind": "central"}


def test_observations_over_a_dimension_of_levels_are_refused():
    y = xr.DataArray(np.zeros(3), dims="level")
    source = read(xr.DataArray(np.zeros((5, 3)), dims=("sample", "level")), y)
    with pytest.raises(ValueError, match="expected observations without a dimension or coordinate 'level'"):
        over_levels(source, {"a": np.zeros((1, 3))}, np.array([0.5]))
