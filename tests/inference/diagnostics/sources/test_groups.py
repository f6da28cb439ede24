"""Groups of observations by a covariate: bins at quantiles, ties, and matching coordinates."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics import pull_summary
from posterity.inference.diagnostics.sources.groups import grouped, over_groups


def test_ties_stay_in_one_bin():
    pulls = xr.Dataset({"pull": ("obs", np.random.default_rng(9).normal(size=60))})
    found = pull_summary(pulls, by=np.r_[np.zeros(40), np.arange(1, 21)], bins=3)
    assert found.n.values.tolist() == [40, 20]


def test_groups_are_those_of_the_same_observations():
    pulls = xr.Dataset({"pull": ("obs", np.random.default_rng(0).normal(size=20))}, coords={"obs": np.arange(20)})
    by = xr.DataArray(np.repeat(["a", "b"], 10), dims="obs", coords={"obs": np.arange(20)[::-1]})
    with pytest.raises(ValueError, match="expected by with the coordinates 'obs' of the observations, got others"):
        pull_summary(pulls, by=by)
    assert pull_summary(pulls, by=by.assign_coords(obs=np.arange(20))).group.values.tolist() == ["a", "b"]
    for wrong in (np.array([1, 2, "a", *range(17)], dtype=object), np.ones(20) * 1j, np.array([None] * 20)):
        with pytest.raises(ValueError, match="expected by to hold numbers, booleans, dates or text, got"):
            pull_summary(pulls, by=wrong)
    with pytest.raises(ValueError, match=r"expected bins to be a whole number of 1 or more, got 2.5"):
        pull_summary(pulls, by=np.arange(20), bins=2.5)


def test_few_different_values_are_groups_by_themselves():
    for by in (["b", "a", "b"], [True, False, True], [2, 1, 2]):
        groups = grouped(np.array(by), xr.Dataset(), 3, bins=2, least=1)
        assert [places.tolist() for places, _ in groups] == [[1], [0, 2]]
        assert [coords["group"] for _, coords in groups] == sorted(set(by))


def test_many_different_values_are_cut_into_bins_of_equal_size():
    by = np.random.default_rng(0).permutation(100) / 10
    groups = grouped(by, xr.Dataset(), 100, bins=4, least=1)
    assert [len(places) for places, _ in groups] == [25] * 4
    ends = [(coords["low"], coords["high"]) for _, coords in groups]
    assert ends == [(0.0, 2.4), (2.5, 4.9), (5.0, 7.4), (7.5, 9.9)]
    for places, coords in groups:
        assert coords["group"] == by[places].mean()


def test_results_of_groups_are_joined_with_their_coordinates():
    groups = grouped(np.arange(6.0), xr.Dataset(), 6, bins=2, least=1)
    found = over_groups([xr.Dataset({"n": len(places)}) for places, _ in groups], groups)
    assert found.n.values.tolist() == [3, 3]
    assert found.low.values.tolist() == [0, 3]
    assert found.high.values.tolist() == [2, 5]


def test_a_group_of_too_few_is_refused():
    with pytest.raises(
        ValueError, match="expected at least 2 observations in each group, got 1 in 'b'; use fewer bins"
    ):
        grouped(np.array(["a", "a", "b"]), xr.Dataset(), 3, bins=4, least=2)
