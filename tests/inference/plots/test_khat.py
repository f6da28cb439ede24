"""Pareto k of every observation, the bad ones marked and named."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.plots import plot_khat
from tests.inference.plots.cases import legend


def test_khat_marks_the_bad_and_names_the_worst():
    k = np.full(100, 0.2)
    k[[3, 50, 70, 80]] = 0.75, 1.4, np.inf, 0.9
    refitted = np.arange(100) == 80
    ax = plot_khat(xr.Dataset({"pareto_k": ("obs", k), "refitted": ("obs", refitted)}, attrs={"threshold": 0.68}))
    good, bad, infinite, again = (one.get_xydata() for one in ax.lines[:4])
    assert len(good) == 96
    np.testing.assert_allclose(bad, [[3, 0.75], [50, 1.4]])
    assert infinite[0, 0] == 70
    assert 1.4 < infinite[0, 1] < ax.get_ylim()[1]
    np.testing.assert_allclose(again, [[80, 0.9]])
    assert legend(ax).split("\n") == ["96 of 100 good", "2 bad: k > 0.68", "1 infinite", "1 bad, fitted again"]
    assert {text.get_text() for text in ax.texts} == {"3", "50", "70", "80"}
    bounds = [one.get_ydata()[0] for one in ax.lines if one.get_linestyle() in ("--", ":")]
    assert bounds == [0.68, 1.0]


def test_khat_of_a_good_fit_over_two_dimensions_has_no_bad_one():
    k = xr.Dataset({"pareto_k": (("row", "column"), np.full((3, 4), 0.1))}, attrs={"good_k": 0.7})
    ax = plot_khat(k)
    assert legend(ax) == "12 of 12 good"
    assert not ax.texts


def test_bad_input_of_khat_is_refused_before_a_figure_is_there(ranks):
    loo = xr.Dataset({"pareto_k": ("obs", [0.1, np.nan])}, attrs={"threshold": 0.7})
    with pytest.raises(ValueError, match=r"expected a result of loo\(\), with pareto_k, got"):
        plot_khat(ranks)
    with pytest.raises(ValueError, match="with the attribute 'threshold', got"):
        plot_khat(loo.drop_attrs())
    with pytest.raises(ValueError, match="expected at least one pareto_k, none nan, got 1 of 2 nan"):
        plot_khat(loo)
    assert not plt.get_fignums()
