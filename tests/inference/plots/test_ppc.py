"""Posterior predictive checks: the observed statistic among the replicated ones."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from posterity.inference.plots import plot_ppc
from posterity.inference.plots._style import ALARM
from tests.inference.plots.cases import legend


def test_ppc_shows_the_observed_statistic_among_the_replicated(check):
    left, right = plot_ppc(check)
    for ax, name in ((left, "mean"), (right, "max")):
        part = check.sel(statistic=name)
        count, edges, _ = ax.patches[0].get_data()
        assert count.sum() == 500
        np.testing.assert_array_equal(count, np.histogram(part.replicated, edges)[0])
        assert ax.lines[0].get_xdata()[0] == float(part.observed)
        assert ax.get_xlim()[0] <= part.observed <= ax.get_xlim()[1]
        assert f"observed, p = {float(part.p_value):.3f}" in legend(ax)
        assert ax.get_xlabel() == f"T = {name}"
    assert to_rgb(left.lines[0].get_color()) != to_rgb(ALARM)
    assert to_rgb(right.lines[0].get_color()) == to_rgb(ALARM)


def test_one_statistic_is_on_axes_by_itself_and_may_have_one_value(check):
    ax = plot_ppc(check, statistics=["max"])
    assert isinstance(ax, plt.Axes)
    same = check.assign(replicated=check.replicated * 0)
    count, edges, _ = plot_ppc(same, statistics="mean").patches[0].get_data()
    assert count.max() == 500
    assert edges[0] < 0 < edges[-1]


def test_ppc_takes_what_the_diagnostic_returns():
    from posterity.inference.diagnostics.checks.predictive_check import posterior_predictive_check

    rng = np.random.default_rng(0)
    result = posterior_predictive_check(rng.normal(size=(400, 100)), rng.exponential(size=100) - 1)
    found = plot_ppc(result)
    assert [ax.get_xlabel() for ax in found] == [f"T = {name}" for name in result.statistic.values]
    alarm = [to_rgb(ax.lines[0].get_color()) == to_rgb(ALARM) for ax in found]
    assert alarm == (result.p_value < 0.05).values.tolist()
    assert any(alarm)
    assert not all(alarm)


def test_bad_input_of_ppc_is_refused_before_a_figure_is_there(check, ranks):
    with pytest.raises(ValueError, match=r"expected a result of posterior_predictive_check\(\), with replicated, o"):
        plot_ppc(ranks)
    with pytest.raises(ValueError, match=r"expected names of statistic from \['mean', 'max'\], got \['min'\]"):
        plot_ppc(check, statistics=["min"])
    with pytest.raises(ValueError, match="expected finite replicated of the result, got 1000 of 1000"):
        plot_ppc(check.assign(replicated=check.replicated * np.nan))
    with pytest.raises(ValueError, match="expected bins to be a whole number of 1 or more, got 0"):
        plot_ppc(check, bins=0)
    assert not plt.get_fignums()
