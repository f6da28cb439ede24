"""Pulls over a covariate, with simultaneous bands for the means and widths of the bins."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection

from posterity.inference.diagnostics.calibration.widths import pull_summary
from posterity.inference.plots import plot_pull_vs
from posterity.inference.plots.pull_vs import _bands
from tests.inference.plots.cases import UNIFORM, bars, legend, line, pulls


def test_pulls_over_a_covariate_are_the_summary_of_each_bin():
    values = pulls(800, seed=1)
    ax, summary = plot_pull_vs(values, "x", bins=5, limit=6.0), pull_summary(values, by="x", bins=5)
    for name in ("mean", "width"):
        places, errors = bars(ax, name)
        np.testing.assert_allclose(places, np.stack([summary["group"], summary[name]], 1))
        np.testing.assert_allclose(errors, summary[f"{name}_se"])
    scatter = line(ax, "800 pulls")
    np.testing.assert_allclose(scatter, np.stack([values.x, values.pull], 1))
    assert ax.get_xlabel() == "x"
    # The bands meet between the bins, and cover all of x.
    areas = [one.get_paths()[0].vertices[:, 0] for one in ax.collections if isinstance(one, PolyCollection)]
    ends = np.array([[area.min(), area.max()] for area in areas[:5]])
    np.testing.assert_allclose(ends[1:, 0], ends[:-1, 1])
    np.testing.assert_allclose([ends[0, 0], ends[-1, 1]], [values.x.min(), values.x.max()])


def test_error_bars_of_pulls_that_share_an_event_are_those_of_the_bootstrap_over_events():
    values, event = pulls(800, seed=1), np.arange(800) // 4
    ax, summary = plot_pull_vs(values, "x", bins=5, event=event), pull_summary(values, by="x", bins=5, event=event)
    for name in ("mean", "width"):
        np.testing.assert_allclose(bars(ax, name)[1], summary[f"{name}_se"])


def test_bands_hold_all_means_and_widths_as_often_as_promised():
    """1,000 right models in five bins of 12: 90 % stay in all ten bands (within 4 standard errors of .0095)."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1000, 5, 12))
    band = _bands(np.full(5, 12), 0.9)
    inside = np.ones(1000, bool)
    for name, found in (("mean", values.mean(-1)), ("width", values.std(-1, ddof=1))):
        inside &= ((found >= band[name][:, 0]) & (found <= band[name][:, 1])).all(-1)
    assert inside.mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 1000))
    # Pointwise bands would not do: ten of them, each of 90 %, hold everything in .9^10 = 35 %.
    assert 0.9**10 < 0.9 - 4 * 0.0095


def test_the_bins_that_are_wrong_are_circled():
    values = pulls(800, seed=3)
    assert "outside" not in legend(plot_pull_vs(values, "x", bins=4))
    high = np.asarray(values.x > np.quantile(values.x, 0.75))
    wide = values.assign(pull=("obs", np.where(high, 1.5, 1.0) * values.pull.values))
    ax = plot_pull_vs(wide, "x", bins=4)
    assert "width outside: 1 of 4" in legend(ax)
    assert "mean outside" not in legend(ax)
    circled = line(ax, "width outside")
    np.testing.assert_allclose(circled[0], bars(ax, "width")[0][-1])
    shifted = values.assign(pull=("obs", values.pull.values + high))
    assert "mean outside: 1 of 4" in legend(plot_pull_vs(shifted, "x", bins=4))


def test_moment_pulls_have_no_bands_since_a_right_model_need_not_have_normal_ones():
    normal, moment = (plot_pull_vs(pulls(400, 0, kind=kind), "x", bins=4) for kind in ("component", "moment"))
    assert len(normal.collections) == len(moment.collections) + 8
    wide = pulls(400, 0, kind="moment")
    assert "outside" not in legend(plot_pull_vs(wide.assign(pull=3 * wide.pull), "x", bins=4))


def test_groups_by_name_stand_side_by_side():
    values = pulls(300, seed=0)
    region = np.array(["north", "east", "south"])[np.arange(300) % 3]
    ax = plot_pull_vs(values, region, xlabel="region")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["east", "north", "south"]
    places, _ = bars(ax, "mean")
    np.testing.assert_allclose(places[1], [1, values.pull.values[region == "north"].mean()])
    scatter = line(ax, "300 pulls")
    np.testing.assert_array_equal(np.round(scatter[:, 0]), np.where(region == "north", 1, 2 * (region == "south")))


def test_pulls_far_out_are_counted_and_not_drawn():
    values = pulls(400, seed=0)
    values["pull"][7] = 30.0
    ax = plot_pull_vs(values, "x", limit=4.0)
    assert "400 pulls, 1 beyond ±4" in legend(ax)
    assert np.abs(line(ax, "400 pulls")[:, 1]).max() <= 4


def test_bad_input_of_pull_vs_is_refused_before_a_figure_is_there():
    values = pulls(100, 0)
    with pytest.raises(ValueError, match=r"expected a result of pulls\(\), with pull, got"):
        plot_pull_vs(UNIFORM, "x")
    with pytest.raises(ValueError, match="expected by to be one of"):
        plot_pull_vs(values, "height")
    with pytest.raises(ValueError, match="expected by with 100 values, one for each observation, got 99"):
        plot_pull_vs(values, np.zeros(99))
    with pytest.raises(ValueError, match=r"expected prob to be a number in \(0, 1\), got 1"):
        plot_pull_vs(values, "x", prob=1)
    with pytest.raises(ValueError, match="expected limit to be a finite number above 1"):
        plot_pull_vs(values, "x", limit=1.0)
    assert not plt.get_fignums()
