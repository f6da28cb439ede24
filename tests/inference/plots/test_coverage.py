"""Observed against nominal coverage, of models, groups and bins."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from posterity.inference.diagnostics.calibration.regions import coverage
from posterity.inference.plots import plot_coverage
from tests.inference.plots.cases import legend, levels, line, pulls


def test_coverage_of_several_models_by_name():
    result = coverage(levels(100))
    ax = plot_coverage({"network": result, "ensemble": result})
    assert legend(ax).split("\n") == ["calibrated", "network", "ensemble"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.coverage)
    difference = plot_coverage(result, difference=True)
    np.testing.assert_allclose(difference.lines[1].get_ydata(), result.coverage - result.level)
    assert legend(difference).split("\n") == ["calibrated", "central regions"]


def test_coverage_over_groups_has_a_line_and_limits_for_each():
    by = np.repeat(["day", "night"], 50)
    result = coverage(levels(100, 2.0), by=by)
    ax = plot_coverage(result)
    assert legend(ax).split("\n") == ["calibrated", "day", "night"]
    for name in ("day", "night"):
        one = result.sel(group=name)
        np.testing.assert_allclose(line(ax, name), np.stack([one.level, one.coverage], 1))
    upper = [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]
    np.testing.assert_allclose(upper, result.upper.max("level"))
    assert "bnn, day" in legend(plot_coverage({"bnn": result}))


def test_bins_of_a_covariate_are_named_by_their_ends_in_an_order_of_colours():
    result = coverage(levels(400), by=np.random.default_rng(0).permutation(400) / 100, bins=3)
    ax = plot_coverage(result)
    first = legend(ax).split("\n")[1]
    assert first == f"{result.low.values[0]:.3g} to {result.high.values[0]:.3g}"
    brightness = [sum(to_rgb(one.get_color())) for one in ax.lines[1:]]
    assert brightness == sorted(brightness)


def test_results_of_tarp_are_drawn():
    rng = np.random.default_rng(0)
    from posterity.inference.diagnostics.simulation.tarp import tarp

    centre = rng.normal(size=(100, 2))
    result = tarp(centre + rng.normal(size=(99, 100, 2)), centre + rng.normal(size=(100, 2)))
    ax = plot_coverage(result)
    assert "balls around random points" in legend(ax)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.coverage)


def test_bad_input_of_coverage_is_refused_before_a_figure_is_there():
    values = pulls(100, 0)
    result = coverage(levels(100))
    with pytest.raises(ValueError, match=r"expected a result of coverage\(\), with coverage, lower, upper, level, got"):
        plot_coverage({"a": values})
    with pytest.raises(ValueError, match=r"expected at least one result of coverage\(\), got none"):
        plot_coverage({})
    with pytest.raises(ValueError, match="expected coverage over 'level', or 'group' and 'level', got"):
        plot_coverage(result.expand_dims(fold=2))
    assert not plt.get_fignums()
