"""Plots of predictives over x show the quantiles, densities and variances that they were given."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from posterity.inference.diagnostics import split_shares, uncertainty_split
from posterity.inference.plots import (
    plot_bands,
    plot_compare_uncertainty,
    plot_conditional_density,
    plot_samples,
    plot_uncertainty_split,
)
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

N = 25
X = torch.linspace(-2, 2, N)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def predictive() -> PredictiveMixture:
    """Two answers for each of four draws, which spread with x."""
    loc = torch.stack([X + 1, -X - 1], -1) + torch.arange(4.0)[:, None, None] * 0.1 * X[:, None] ** 2
    return PredictiveMixture.from_draws(Mixture.normal(torch.zeros(4, N, 2), loc, torch.full((4, N, 2), 0.3)))


@pytest.fixture
def bare() -> Mixture:
    return Mixture.normal(torch.zeros(N, 2), torch.stack([X, -X], -1), torch.full((N, 2), 0.5))


@pytest.fixture
def y(predictive: PredictiveMixture) -> torch.Tensor:
    return predictive.sample()


def legend(ax: plt.Axes) -> str:
    return "\n".join(text.get_text() for text in ax.get_legend().get_texts())


def tops(ax: plt.Axes) -> list[float]:
    """The highest point of each stacked area."""
    return [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]


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


def test_density_columns_reach_one_at_their_peak(predictive, y):
    ax = plot_conditional_density(predictive, X, y=y, limits=(-5, 5), resolution=400)
    image = ax.collections[0].get_array().reshape(400, N)
    np.testing.assert_allclose(image.max(0), 1.0)
    grid = np.linspace(-5, 5, 400)
    density = predictive.to(torch.double).log_prob(torch.as_tensor(grid)[:, None]).exp().numpy()
    np.testing.assert_allclose(image, density / density.max(0), atol=1e-9)
    assert ax.get_ylim() == (-5, 5)
    assert plot_conditional_density(predictive, X, plot_kwargs={"cmap": "Greys"}).collections[0].cmap.name == "Greys"


def test_density_chooses_limits_that_hold_the_data(predictive):
    far = {"y": torch.tensor([30.0]), "x_data": torch.tensor([0.0])}
    low, high = plot_conditional_density(predictive, X, **far).get_ylim()
    assert low < -3
    assert high > 30


def test_split_is_stacked_to_the_total(predictive):
    split = uncertainty_split(predictive)
    ax = plot_uncertainty_split(split, X)
    assert tops(ax)[0] == pytest.approx(float(split.noise.max()))
    assert tops(ax)[-1] == pytest.approx(float(split.total.max()), rel=1e-6)
    assert legend(ax).split("\n") == ["total", "epistemic", "ambiguity", "noise"]
    shares = plot_uncertainty_split(split, X, shares=True)
    assert shares.get_ylim() == (0, 1)


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


def test_bad_input_is_refused_before_a_figure_is_there(predictive, bare, y):
    split = uncertainty_split(predictive)
    several = Mixture.normal(torch.zeros(N, 2), torch.zeros(N, 2), torch.ones(N, 2))[: N - 1]
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(25, 2\)"):
        plot_bands(predictive, X[:, None].expand(N, 2))
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\)"):
        plot_bands(predictive, X, levels=(0.5, 1.0))
    with pytest.raises(ValueError, match=r"expected y of shape \(3,\), got \(25,\)"):
        plot_bands(predictive, X, y=y, x_data=torch.zeros(3))
    with pytest.raises(ValueError, match="expected y beside x_data, got None"):
        plot_bands(predictive, X, x_data=X)
    with pytest.raises(
        ValueError, match=r"expected a Mixture, an array of draws \(draws, N\), or ArviZ data .*, got dict"
    ):
        plot_bands({}, X)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N\), got \(25,\)"):
        plot_bands(X, X)
    with pytest.raises(ValueError, match="expected finite draws, got 25 of 50"):
        plot_bands(np.array([X.numpy(), np.full(N, np.nan)]), X)
    with pytest.raises(ValueError, match="expected finite x, got 25 of 25 that are nan"):
        plot_conditional_density(predictive, X * torch.nan)
    with pytest.raises(ValueError, match="expected limits"):
        plot_conditional_density(predictive, X, limits=(1.0, 1.0))
    with pytest.raises(ValueError, match="expected resolution to be a whole number of 2 or more"):
        plot_conditional_density(predictive, X, resolution=1)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N\), got \(25,\)"):
        plot_conditional_density(y, X)
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(24,\)"):
        plot_uncertainty_split(split, X[:-1])
    with pytest.raises(ValueError, match="expected totals above 0 for shares, got 0"):
        plot_uncertainty_split(split * 0, X, shares=True)
    with pytest.raises(ValueError, match="expected colors for any of"):
        plot_uncertainty_split(split, X, colors={"total": "red"})
    with pytest.raises(ValueError, match="expected predictives or splits by name, at least one, got none"):
        plot_compare_uncertainty({}, X)
    with pytest.raises(ValueError, match="expected predictives or splits by name, at least one, got PredictiveMixture"):
        plot_compare_uncertainty(predictive, X)
    with pytest.raises(ValueError, match="expected predictives of all models, or splits of all, got"):
        plot_compare_uncertainty({"a": predictive, "b": split}, X)
    with pytest.raises(ValueError, match="expected 'a' to be a Mixture or a split of its variance, got Tensor"):
        plot_compare_uncertainty({"a": y}, X)
    with pytest.raises(ValueError, match="expected y only beside predictives"):
        plot_compare_uncertainty({"a": split}, X, y=y)
    with pytest.raises(ValueError, match=r"expected x of shape \(24,\), got \(25,\)"):
        plot_compare_uncertainty({"a": predictive, "b": several}, X)
    with pytest.raises(ValueError, match=r"expected a result of uncertainty_split\(\), with noise"):
        plot_compare_uncertainty({"a": xr.Dataset()}, X)
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\)"):
        plot_compare_uncertainty({"a": predictive}, X, levels=(2.0,))
    with pytest.raises(ValueError, match="expected finite images"):
        plot_samples(torch.full((1, 1, 2, 2), torch.nan))
    assert not plt.get_fignums()


def test_rows_of_panels_hold_the_largest_variance_wherever_it_stands():
    """A model of little variance first: the axes are shared, and have to hold 144 all the same."""
    x = torch.linspace(0, 1, 5)
    small, large = (Mixture.normal(torch.zeros(5, 1), torch.zeros(5, 1), torch.full((5, 1), sd)) for sd in (1.0, 12.0))
    for models in ({"a": small, "b": large}, {"b": large, "a": small}):
        grid = plot_compare_uncertainty(models, x)
        assert grid[1, 0].get_ylim()[1] >= 144
        assert grid[1, 0].get_ylim() == grid[1, 1].get_ylim()
        plt.close(grid[0, 0].figure)


def test_a_single_feature_may_have_a_dimension_of_its_own():
    x = torch.linspace(0, 1, 5)
    model = Mixture.normal(torch.zeros(5, 1), torch.zeros(5, 1), torch.ones(5, 1))
    for plot in (plot_bands, plot_conditional_density):
        plot(model, x[:, None], ax=Figure().subplots())
