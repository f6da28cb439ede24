"""Bands over x show the quantiles of the predictive and the spread of the draws' means."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from posterity.data import Observations
from posterity.inference.plots import plot_bands, plot_conditional_density
from posterity.models.mixtures import Mixture
from tests.inference.plots.cases import N, X, legend


def test_bands_are_the_quantiles(predictive, y):
    ax = plot_bands(predictive, X, y=y, levels=(0.9,), ylabel="height [m]")
    double = predictive.to(torch.double)
    corners = ax.collections[0].get_paths()[0].vertices
    expected = double.icdf(torch.tensor([[0.05], [0.95]])).numpy()
    assert corners[:, 1].min() == pytest.approx(expected[0].min(), abs=1e-6)
    assert corners[:, 1].max() == pytest.approx(expected[1].max(), abs=1e-6)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), double.icdf(0.5), atol=1e-6)
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 1], y, rtol=1e-6)
    assert ax.get_ylabel() == "height [m]"
    assert "90% of the mean (epistemic)" in legend(ax)


def test_bands_of_draws_are_their_quantiles(predictive):
    draws = predictive.sample(torch.Size([300]))
    first, second = plot_bands(draws, X, levels=(0.8,)), plot_bands(draws.numpy(), X, levels=(0.8,))
    for ax in (first, second):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(draws, 0), atol=1e-6)
        corners = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert corners.min() == pytest.approx(np.quantile(draws, 0.1, axis=0).min(), abs=1e-6)
        assert "epistemic" not in legend(ax)


def test_band_of_the_mean_spans_the_means_of_the_draws(predictive):
    ax = plot_bands(predictive, X, levels=(0.9,))
    means = predictive.to(torch.double).per_draw.mean.numpy()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), means.min(-1), atol=1e-6)
    np.testing.assert_allclose(ax.lines[2].get_ydata(), means.max(-1), atol=1e-6)
    assert "epistemic" not in legend(plot_bands(predictive, X, split=False))


def test_order_of_x_does_not_matter(predictive):
    shuffled = torch.randperm(N)
    first, second = plot_bands(predictive, X), plot_bands(predictive[shuffled], X[shuffled])
    np.testing.assert_allclose(first.lines[0].get_xydata(), second.lines[0].get_xydata())


def test_a_single_feature_may_have_a_dimension_of_its_own():
    x = torch.linspace(0, 1, 5)
    model = Mixture.normal(torch.zeros(5, 1), torch.zeros(5, 1), torch.ones(5, 1))
    for plot in (plot_bands, plot_conditional_density):
        plot(model, x[:, None], ax=Figure().subplots())


def test_bad_input_of_bands_is_refused_before_a_figure_is_there(predictive, y):
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(25, 2\)"):
        plot_bands(predictive, X[:, None].expand(N, 2))
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\)"):
        plot_bands(predictive, X, levels=(0.5, 1.0))
    with pytest.raises(ValueError, match=r"expected y of shape \(3,\), got \(25,\)"):
        plot_bands(predictive, X, y=y, x_data=torch.zeros(3))
    with pytest.raises(ValueError, match="expected y with x_data, got None"):
        plot_bands(predictive, X, x_data=X)
    with pytest.raises(
        ValueError, match=r"expected a Mixture, an array of draws \(draws, N\), or ArviZ data .*, got dict"
    ):
        plot_bands({}, X)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N\), got \(25,\)"):
        plot_bands(X, X)
    with pytest.raises(ValueError, match="expected finite draws, got 25 of 50"):
        plot_bands(np.array([X.numpy(), np.full(N, np.nan)]), X)
    assert not plt.get_fignums()


def test_observations_give_points_and_labels(predictive, y):
    data = Observations(X[:, None], y, ["time"], ["height"])
    for plot in (plot_bands, plot_conditional_density):
        ax = plot(predictive, X, y=data, ax=Figure().subplots())
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "height")
        np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 1], y, rtol=1e-6)
    assert plot_bands(predictive, X, y=data, xlabel="t", ax=Figure().subplots()).get_xlabel() == "t"
