"""Scores of usual and other inputs, and the ROC curve between them."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.stats import mannwhitneyu

from posterity.inference.diagnostics.decomposition.ood import auroc
from posterity.inference.plots import plot_ood
from tests.inference.plots.cases import legend


def test_ood_is_mann_and_whitneys_count_ties_included():
    rng = np.random.default_rng(0)
    usual, other = rng.poisson(4, 300).astype(float), rng.poisson(7, 200).astype(float)
    left, right = plot_ood(usual, other, labels=("digits", "letters"))
    wins = mannwhitneyu(other, usual).statistic
    assert legend(right).split("\n")[1] == f"AUROC {wins / (300 * 200):.3f} ± {float(auroc(usual, other).auroc_se):.3f}"
    thresholds = np.arange(max(usual.max(), other.max()), -1, -1)
    curve = [[(usual >= one).mean(), (other >= one).mean()] for one in thresholds]
    drawn = right.lines[1].get_xydata()
    assert drawn[0].tolist() == [0, 0]
    assert drawn[-1].tolist() == [1, 1]
    assert {tuple(np.round(one, 9)) for one in drawn[1:]} == {tuple(np.round(one, 9)) for one in curve}
    assert legend(left).split("\n") == ["digits (300)", "letters (200)"]
    for patch, values in zip(left.patches[::2], (usual, other), strict=True):
        density, edges, _ = patch.get_data()
        np.testing.assert_allclose(density, np.histogram(values, edges, density=True)[0])
    assert right.get_xlabel() == "digits: share above threshold"


def test_ood_of_scores_that_tell_nothing_or_everything():
    assert "AUROC 0.500 ± 0.000" in legend(plot_ood(np.ones(10), np.ones(20))[1])
    assert "AUROC 1.000" in legend(plot_ood(np.arange(10), 20.0 + np.arange(5))[1])
    assert "AUROC 0.000" in legend(plot_ood(20.0 + np.arange(5), np.arange(10))[1])


def test_bad_input_of_ood_is_refused_before_a_figure_is_there():
    with pytest.raises(ValueError, match="expected finite out_scores, got 1 of 2"):
        plot_ood([0.0, 1.0], [0.0, np.inf])
    with pytest.raises(ValueError, match=r"expected in_scores of shape \(N,\), got \(0,\)"):
        plot_ood([], [0.0])
    with pytest.raises(ValueError, match="expected bins to be a whole number of 1 or more, got 0"):
        plot_ood([0.0], [1.0], bins=0)
    with pytest.raises(ValueError, match=r"expected out_scores of shape \(N,\), N of 2 or more, got \(1,\)"):
        plot_ood([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="expected 2 labels, got 1"):
        plot_ood([0.0, 1.0], [1.0, 2.0], labels=["digits"])
    assert not plt.get_fignums()
