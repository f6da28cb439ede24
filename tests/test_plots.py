"""What can be checked of a picture: that it shows the numbers it was given, labelled, on the axes it was given."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.diagnostics import coverage, ecdf_band, pit, pulls, uncertainty_split
from posterity.inference.plots import plot_bands, plot_coverage, plot_density, plot_pit, plot_pulls, plot_split
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
def y(predictive: PredictiveMixture) -> torch.Tensor:
    return predictive.sample()


def legend(ax: plt.Axes) -> str:
    return "\n".join(text.get_text() for text in ax.get_legend().get_texts())


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
    ax = plot_density(predictive, X, y=y, limits=(-5, 5), resolution=400)
    image = ax.collections[0].get_array().reshape(400, N)
    np.testing.assert_allclose(image.max(0), 1.0)
    grid = np.linspace(-5, 5, 400)
    density = predictive.to(torch.double).log_prob(torch.as_tensor(grid)[:, None]).exp().numpy()
    np.testing.assert_allclose(image, density / density.max(0), atol=1e-9)
    assert ax.get_ylim() == (-5, 5)


def test_density_chooses_limits_that_hold_the_data(predictive):
    low, high = plot_density(predictive, X, y=torch.tensor([30.0]), x_data=torch.tensor([0.0])).get_ylim()
    assert low < -3
    assert high > 30


def test_pulls_name_mean_and_width_with_errors_and_count_outliers():
    values = xr.Dataset({"pull": ("obs", np.r_[np.random.default_rng(0).normal(size=999), 40.0])})
    text = legend(plot_pulls(values))
    assert "1,000 pulls, 1 beyond ±5" in text
    assert "mean" in text
    assert "width" in text
    assert text.count("±") == 3


def test_pit_draws_the_difference_and_marks_what_leaves_the_band():
    uniform = xr.Dataset({"pit": ("obs", (np.arange(200) + 0.5) / 200)})
    ax = plot_pit(uniform)
    assert "outside" not in legend(ax)
    assert np.abs(ax.lines[1].get_ydata()).max() <= 0.5 / 200 + 1e-12
    low = (ecdf_band(200).lower - ecdf_band(200).z).min()
    assert ax.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(float(low))
    assert "outside at" in legend(plot_pit(uniform**2))


def test_coverage_of_several_models_by_name(predictive, y):
    result = coverage(predictive, y)
    ax = plot_coverage({"network": result, "ensemble": result})
    assert legend(ax).split("\n") == ["calibrated", "network", "ensemble"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.coverage)
    difference = plot_coverage(result, difference=True)
    np.testing.assert_allclose(difference.lines[1].get_ydata(), result.coverage - result.level)


def test_split_is_stacked_to_the_total(predictive):
    split = uncertainty_split(predictive)
    ax = plot_split(split, X)
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]
    assert tops[0] == pytest.approx(float(split.noise.max()))
    assert tops[-1] == pytest.approx(float(split.total.max()), rel=1e-6)
    assert legend(ax).split("\n") == ["total", "epistemic", "ambiguity", "noise"]
    shares = plot_split(split, X, shares=True)
    assert shares.get_ylim() == (0, 1)


def test_all_draw_on_the_axes_given_and_make_no_other_figure(predictive, y):
    ax = plt.figure().subplots()
    calls = [
        (plot_bands, (predictive, X), {}),
        (plot_density, (predictive, X), {"colorbar": False}),
        (plot_pulls, (pulls(predictive, y),), {}),
        (plot_pit, (pit(predictive, y),), {}),
        (plot_coverage, (coverage(predictive, y),), {}),
        (plot_split, (uncertainty_split(predictive), X), {}),
    ]
    for function, arguments, settings in calls:
        ax.clear()
        assert function(*arguments, ax=ax, **settings) is ax
        ax.figure.canvas.draw()
    assert len(plt.get_fignums()) == 1


def test_bad_input_is_refused(predictive, y):
    split = uncertainty_split(predictive)
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(25, 1\)"):
        plot_bands(predictive, X[:, None])
    with pytest.raises(ValueError, match=r"expected levels in \(0, 1\)"):
        plot_bands(predictive, X, levels=(0.5, 1.0))
    with pytest.raises(ValueError, match=r"expected y of shape \(3,\), got \(25,\)"):
        plot_bands(predictive, X, y=y, x_data=torch.zeros(3))
    with pytest.raises(ValueError, match="expected y beside x_data, got None"):
        plot_bands(predictive, X, x_data=X)
    with pytest.raises(ValueError, match="expected finite x, got 25 nan"):
        plot_density(predictive, X * torch.nan)
    with pytest.raises(ValueError, match="expected limits"):
        plot_density(predictive, X, limits=(1.0, 1.0))
    with pytest.raises(ValueError, match="expected a resolution of at least 2"):
        plot_density(predictive, X, resolution=1)
    with pytest.raises(ValueError, match="expected a limit above 0"):
        plot_pulls(pulls(predictive, y), limit=0.0)
    with pytest.raises(ValueError, match=r"expected results of coverage\(\), got"):
        plot_coverage({"a": split})
    with pytest.raises(ValueError, match=r"expected at least one result of coverage\(\)"):
        plot_coverage({})
    with pytest.raises(ValueError, match=r"expected x of shape \(25,\), got \(24,\)"):
        plot_split(split, X[:-1])
