"""R-hat and effective sample sizes of many functions at once, against ArviZ one by one."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import rankdata

from posterity.inference.arviz import ess, rhat
from posterity.inference.convergence import statistics


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "tied"])
def test_convergence_is_arviz_of_each_function(rounded):
    values = np.random.default_rng(0).normal(size=(4, 51, 6)).cumsum(1) / np.arange(1, 7)
    values = values.round() if rounded else values
    array = xr.DataArray(values, dims=("chain", "draw", "point"))
    result = statistics.convergence(values)
    np.testing.assert_allclose(result["rhat"], rhat(array), rtol=1e-9)
    np.testing.assert_allclose(result["ess_bulk"], ess(array, method="bulk"), rtol=1e-9)
    np.testing.assert_allclose(result["ess_tail"], ess(array, method="tail"), rtol=1e-9)


def test_chunks_of_functions_do_not_change_the_numbers(monkeypatch):
    values = np.random.default_rng(1).normal(size=(2, 20, 7))
    whole = statistics.convergence(values)
    monkeypatch.setattr(statistics, "CHUNK", 2 * 20 * 3)
    for name, part in statistics.convergence(values).items():
        np.testing.assert_array_equal(part, whole[name])


def test_ties_have_the_mean_of_their_ranks_as_in_scipy():
    values = np.random.default_rng(2).integers(0, 5, (3, 40)).astype(float)
    ranks = np.arange(2, 2 * 40 + 1) / 2
    np.testing.assert_array_equal(statistics.by_rank(values, ranks), rankdata(values, axis=1))


def test_agreeing_chains_seldom_exceed_the_rhat_that_chance_explains():
    """With probability 0.1 at most (Bonferroni), within five standard errors of 400 repetitions."""
    rng = np.random.default_rng(3)
    exceeded = 0
    for values in rng.normal(size=(400, 4, 50, 1)):
        exceeded += statistics.convergence(values)["rhat"][0] > statistics.rhat_by_chance(values[..., 0], 1, 0.1)
    assert exceeded / 400 < 0.1 + 5 * np.sqrt(0.1 * 0.9 / 400)


def test_an_rhat_that_needs_no_explanation_or_is_beyond_one_has_none():
    values = np.random.default_rng(4).normal(size=(4, 100, 2))
    assert statistics.rhat_explained_by_chance(values, np.array([1.0, 1.005])) == 1.0
    assert statistics.rhat_explained_by_chance(values, np.array([1.0, 1.3])) == 1.0
    assert 1.0 < statistics.rhat_explained_by_chance(values, np.array([1.0, 1.02])) <= 1.1
