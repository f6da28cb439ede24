"""The conditional density over x, each column scaled to a peak of one."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from posterity.inference.plots import plot_conditional_density
from tests.inference.plots.cases import N, X


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


def test_bad_input_of_conditional_density_is_refused_before_a_figure_is_there(predictive, y):
    with pytest.raises(ValueError, match="expected finite x, got 25 of 25 that are nan"):
        plot_conditional_density(predictive, X * torch.nan)
    with pytest.raises(ValueError, match="expected limits"):
        plot_conditional_density(predictive, X, limits=(1.0, 1.0))
    with pytest.raises(ValueError, match="expected resolution to be a whole number of 2 or more"):
        plot_conditional_density(predictive, X, resolution=1)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N\), got \(25,\)"):
        plot_conditional_density(y, X)
    assert not plt.get_fignums()
