"""Models side by side share their scales and have legends of their own figure only."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.diagnostics import split_shares, uncertainty_split
from posterity.inference.plots import plot_compare_uncertainty
from posterity.models.mixtures import Mixture
from tests.inference.plots.cases import N, X, legend, tops


def test_models_side_by_side_have_one_scale_and_their_own_split(predictive, bare, y):
    models = {"bnn": predictive, "mdn": bare}
    grid = plot_compare_uncertainty(models, X, y=y, ylabel="height / m")
    assert grid.shape == (2, 2)
    assert [ax.get_title() for ax in grid[0]] == ["bnn", "mdn"]
    for row in grid:
        assert row[0].get_ylim() == row[1].get_ylim()
    for column, model in zip(grid.T, models.values(), strict=True):
        split = uncertainty_split(model)
        assert tops(column[1])[-1] == pytest.approx(float(split.total.max()), rel=1e-6)
        np.testing.assert_allclose(column[0].lines[0].get_ydata(), model.to(torch.double).icdf(0.5), atol=1e-6)
        np.testing.assert_allclose(column[0].collections[-1].get_offsets()[:, 1], y, rtol=1e-6)
        named = {name.split("_")[0]: float(share) for name, share in split_shares(split).items()}
        assert column[1].get_title() == ", ".join(f"{name} {share:.0%}" for name, share in named.items())
    # The same colour for what is the same, by whichever name.
    left, right = (ax.collections[0].get_facecolor() for ax in grid[1])
    np.testing.assert_array_equal(left, right)
    (found,) = grid[0, 0].figure.legends
    texts = [text.get_text() for text in found.get_texts()]
    assert len(texts) == len(set(texts))
    assert {"data", "median", "noise", "epistemic", "within component"} <= set(texts)
    assert all(ax.get_legend() is None for ax in grid.ravel())
    assert grid[0, 0].get_ylabel() == "height / m"
    assert grid[0, 1].get_ylabel() == ""


def test_stored_splits_are_compared_without_the_predictives(predictive, bare):
    splits = {"bnn": uncertainty_split(predictive), "mdn": uncertainty_split(bare)}
    grid = plot_compare_uncertainty(splits, X, shares=True)
    assert grid.shape == (1, 2)
    assert grid[0, 0].get_ylim() == (0, 1)
    assert grid[0, 1].get_title().startswith("mdn\nwithin ")


def test_axes_of_another_figure_have_their_legends_inside(predictive, bare):
    axes = plt.figure().subplots(2, 2)
    plot_compare_uncertainty({"bnn": predictive, "mdn": bare}, X, ax=axes)
    assert not axes[0, 0].figure.legends
    assert "median" in legend(axes[0, 0])
    assert legend(axes[1, 0]).split("\n")[:4] == ["noise", "ambiguity", "epistemic", "total"]
    # One scale, which holds the wider of them wherever it stands.
    total = max(float(uncertainty_split(model).total.max()) for model in (predictive, bare))
    for models in ({"bnn": predictive, "mdn": bare}, {"mdn": bare, "bnn": predictive}):
        axes = plot_compare_uncertainty(models, X, ax=plt.figure().subplots(2, 2))
        assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim()
        assert axes[1, 0].get_ylim() == axes[1, 1].get_ylim()
        assert axes[1, 0].get_ylim()[1] >= total


def test_rows_of_panels_hold_the_largest_variance_wherever_it_stands():
    """A model of little variance first: the axes are shared, and have to hold 144 all the same."""
    x = torch.linspace(0, 1, 5)
    small, large = (Mixture.normal(torch.zeros(5, 1), torch.zeros(5, 1), torch.full((5, 1), sd)) for sd in (1.0, 12.0))
    for models in ({"a": small, "b": large}, {"b": large, "a": small}):
        grid = plot_compare_uncertainty(models, x)
        assert grid[1, 0].get_ylim()[1] >= 144
        assert grid[1, 0].get_ylim() == grid[1, 1].get_ylim()
        plt.close(grid[0, 0].figure)


def test_bad_input_of_compare_uncertainty_is_refused_before_a_figure_is_there(predictive, y):
    split = uncertainty_split(predictive)
    several = Mixture.normal(torch.zeros(N, 2), torch.zeros(N, 2), torch.ones(N, 2))[: N - 1]
    with pytest.raises(ValueError, match="expected predictives or splits by name, at least one, got none"):
        plot_compare_uncertainty({}, X)
    with pytest.raises(ValueError, match="expected predictives or splits by name, at least one, got PredictiveMixture"):
        plot_compare_uncertainty(predictive, X)
    with pytest.raises(ValueError, match="expected predictives of all models, or splits of all, got"):
        plot_compare_uncertainty({"a": predictive, "b": split}, X)
    with pytest.raises(ValueError, match="expected 'a' to be a Mixture or a split of its variance, got Tensor"):
        plot_compare_uncertainty({"a": y}, X)
    with pytest.raises(ValueError, match="expected y only with predictives"):
        plot_compare_uncertainty({"a": split}, X, y=y)
    with pytest.raises(ValueError, match=r"expected x of shape \(24,\), got \(25,\)"):
        plot_compare_uncertainty({"a": predictive, "b": several}, X)
    with pytest.raises(ValueError, match=r"expected a result of uncertainty_split\(\), with noise"):
        plot_compare_uncertainty({"a": xr.Dataset()}, X)
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\)"):
        plot_compare_uncertainty({"a": predictive}, X, levels=(2.0,))
    assert not plt.get_fignums()
