"""Dimensions and coordinates of observations."""

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference.diagnostics import pit
from posterity.inference.diagnostics.sources.labels import is_named, observations, require_same
from posterity.models.mixtures import Mixture


def bimodal(n: int, width: float = 1.0) -> Mixture:
    """Two peaks whose weights and places change along the batch; ``width`` scales both."""
    x = torch.linspace(-2, 2, n).double()
    logits = torch.stack([x, -x], -1)
    loc = torch.stack([torch.sin(x) + 1.5, torch.cos(x) - 1.5], -1)
    return Mixture.normal(logits, loc, width * torch.tensor([0.5, 1.0]).double())


def test_names_of_y_are_kept_with_a_mixture_too():
    y = xr.DataArray(np.zeros(9), dims="day", coords={"day": np.arange(9) + 100})
    found = pit(bimodal(9), y)
    assert found.pit.dims == ("day",)
    np.testing.assert_array_equal(found.day, y.day)
    with pytest.raises(ValueError, match="expected y without a mask, got a masked array"):
        pit(bimodal(9), np.ma.masked_array(np.zeros(9), np.arange(9) < 2))


def test_the_observations_are_named_by_whichever_array_has_names():
    named = xr.DataArray(np.zeros((5, 3)), dims=("sample", "day"), coords={"day": [1, 2, 3], "sample": np.arange(5)})
    y = xr.DataArray(np.zeros(3), dims="dim_0")
    assert observations(None, np.zeros(3), 3).dims == ("obs",)
    assert observations(named, y, 3).dims == ("day",)
    assert observations(named, None, 3).coords.keys() == {"day"}
    assert observations(None, named[0], 3).day.values.tolist() == [1, 2, 3]


def test_dimensions_that_differ_are_refused():
    day, place = (xr.DataArray(np.zeros(3), dims=name) for name in ("day", "place"))
    with pytest.raises(ValueError, match=r"expected y over the dimensions \('place',\) of the draws, got \('day',\)"):
        require_same("y", day, "the draws", place)
    moved = day.assign_coords(day=[1, 2, 3]), day.assign_coords(day=[2, 1, 3])
    with pytest.raises(ValueError, match="expected y with the coordinates 'day' of the draws, got others"):
        require_same("y", moved[0], "the draws", moved[1])
    require_same("y", day, "the draws", moved[0])  # nothing to compare


def test_names_of_xarray_are_no_names():
    assert is_named("day")
    assert is_named("dim_a")
    assert not is_named("dim_0")
