"""The terms of the variance, stacked to the total."""

import pytest
from matplotlib import pyplot as plt

from posterity.inference.diagnostics import uncertainty_split
from posterity.inference.plots import plot_uncertainty_split
from tests.inference.plots.cases import X, legend, tops


def test_split_is_stacked_to_the_total(predictive):
    split = uncertainty_split(predictive)
    ax = plot_uncertainty_split(split, X)
    assert tops(ax)[0] == pytest.approx(float(split.noise.max()))
    assert tops(ax)[-1] == pytest.approx(float(split.total.max()), rel=1e-6)
    assert legend(ax).split("\n") == ["total", "epistemic", "ambiguity", "noise"]
    shares = plot_uncertainty_split(split, X, shares=True)
    assert shares.get_ylim() == (0, 1)


def test_bad_input_of_uncertainty_split_is_refused_before_a_figure_is_there(predictive):
    split = uncertainty_split(predictive)
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(24,\)"):
        plot_uncertainty_split(split, X[:-1])
    with pytest.raises(ValueError, match="expected totals above 0 for shares, got 0"):
        plot_uncertainty_split(split * 0, X, shares=True)
    with pytest.raises(ValueError, match="expected colors for any of"):
        plot_uncertainty_split(split, X, colors={"total": "red"})
    assert not plt.get_fignums()
