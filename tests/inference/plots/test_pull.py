"""The histogram of pulls with mean and width."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from scipy.stats import norm

from posterity.inference.diagnostics.calibration.widths import pull_summary
from posterity.inference.plots import plot_pull
from tests.inference.plots.cases import legend, pulls


def test_pulls_name_mean_and_width_with_errors_and_count_outliers():
    values = xr.Dataset({"pull": ("obs", np.r_[np.random.default_rng(0).normal(size=999), 40.0])})
    ax, summary = plot_pull(values), pull_summary(values)
    text = legend(ax)
    assert "1,000 pulls, 1 beyond ±5" in text
    assert f"mean {float(summary['mean']):.3f} ± {float(summary['mean_se']):.3f}" in text
    assert f"width {float(summary['width']):.3f} ± {float(summary['width_se']):.3f}" in text
    density, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(density, np.histogram(values.pull, edges)[0] / (1000 * 0.25))
    fitted = ax.lines[1]
    expected = norm.pdf(fitted.get_xdata(), float(summary["mean"]), float(summary["width"]))
    np.testing.assert_allclose(fitted.get_ydata(), expected)


def test_errors_of_pulls_that_share_an_event_are_those_of_the_bootstrap_over_events():
    shared = np.repeat(np.random.default_rng(0).normal(size=100), 5)
    values, event = xr.Dataset({"pull": ("obs", shared)}), np.repeat(np.arange(100), 5)
    summary, naive = pull_summary(values, event=event), pull_summary(values)
    assert float(summary["mean_se"]) > 2 * float(naive["mean_se"])  # sqrt(5)
    assert f"mean {float(summary['mean']):.3f} ± {float(summary['mean_se']):.3f}" in legend(
        plot_pull(values, event=event)
    )
    with pytest.raises(ValueError, match="expected event with 500 values"):
        plot_pull(values, event=event[:-1])


def test_two_heaps_of_pulls_are_drawn_without_a_warning_of_what_is_not_drawn():
    heaps = np.r_[np.full(200, -1.0), np.full(200, 1.0)] + 0.01 * np.random.default_rng(0).normal(size=400)
    plot_pull(xr.Dataset({"pull": ("obs", heaps)}))


def test_bad_input_of_pull_is_refused_before_a_figure_is_there():
    values = pulls(100, 0)
    with pytest.raises(ValueError, match="expected limit to be a finite number above 0"):
        plot_pull(values, limit=0.0)
    with pytest.raises(ValueError, match=r"expected bins to be a whole number of 1 or more, got 0"):
        plot_pull(values, bins=0)
    assert not plt.get_fignums()
