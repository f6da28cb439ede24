"""Groups of observations: one for each value, or bins between quantiles that hold ties together."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics import pull_summary
from posterity.inference.diagnostics.sources.groups import grouped, over_groups

DATASET = xr.Dataset({"pull": ("obs", np.arange(6.0)), "x": ("obs", np.arange(6.0))}, coords={"obs": list("abcdef")})


@pytest.mark.parametrize("seed", range(5))
def test_bins_hold_ties_together_and_each_observation_once(seed):
    values = np.random.default_rng(seed).integers(0, 12, 200).astype(float)
    groups = grouped(values, DATASET, 200, bins=5, least=1)
    assert 1 < len(groups) <= 5
    assert sorted(np.concatenate([places for places, _ in groups])) == list(range(200))
    for (places, coords), (_, following) in zip(groups, [*groups[1:], (None, {"low": np.inf})], strict=True):
        assert (coords["low"], coords["high"]) == (values[places].min(), values[places].max())
        assert coords["high"] < following["low"]
        assert coords["group"] == pytest.approx(values[places].mean())


def test_bins_of_different_values_have_equal_numbers():
    values = np.random.default_rng(0).permutation(100.0 * np.arange(100))
    assert [len(places) for places, _ in grouped(values, DATASET, 100, bins=4, least=1)] == [25] * 4


@pytest.mark.parametrize("by", [["s", "n", "s"], [True, False, True], [3, 1, 3]], ids=["text", "booleans", "integers"])
def test_each_value_of_a_discrete_covariate_is_a_group(by):
    groups = grouped(np.array(by), DATASET, 3, bins=2, least=1)
    assert [coords["group"] for _, coords in groups] == sorted(set(by))
    assert [places.tolist() for places, _ in groups] == [[1], [0, 2]]


def test_a_variable_by_name_is_the_same_as_its_values():
    named, given = (grouped(by, DATASET, 6, bins=3, least=1) for by in ("x", np.arange(6.0)))
    assert (
        [places.tolist() for places, _ in named] == [places.tolist() for places, _ in given] == [[0, 1], [2, 3], [4, 5]]
    )


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("height", "expected by to be one of"),
        (np.zeros(5), "expected by with 6 values, one for each observation, got 5"),
        (np.array([0, 1, 2, 3, 4, np.nan]), "expected finite values of by"),
        (np.array([0, 0, 0, 0, 0, 1]), "expected at least 2 observations in each group, got 1"),
        (xr.DataArray(np.arange(6.0), dims="obs", coords={"obs": list("abcdeg")}), "expected by with the coordinates"),
    ],
)
def test_covariates_that_do_not_fit_are_refused(by, message):
    with pytest.raises(ValueError, match=message):
        grouped(by, DATASET, 6, bins=3, least=2)


def test_results_of_groups_are_joined_with_the_ends_of_the_bins():
    groups = grouped("x", DATASET, 6, bins=2, least=1)
    joined = over_groups([xr.Dataset({"mean": DATASET.pull.values[places].mean()}) for places, _ in groups], groups)
    np.testing.assert_array_equal(joined["mean"].sel(group=1.0), 1.0)
    assert joined.low.values.tolist() == [0.0, 3.0]
    assert joined.high.values.tolist() == [2.0, 5.0]


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


def test_a_group_of_too_few_is_refused():
    with pytest.raises(
        ValueError, match="expected at least 2 observations in each group, got 1 in 'b'; use fewer bins"
    ):
        grouped(np.array(["a", "a", "b"]), xr.Dataset(), 3, bins=4, least=2)
