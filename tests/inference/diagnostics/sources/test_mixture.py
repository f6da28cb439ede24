"""Sources of mixtures against numerical integration and simulation."""

import numpy as np
import pytest
import torch
from pyro.distributions import Normal
from scipy import stats
from torch.distributions import Categorical, Poisson, VonMises

from posterity.inference.diagnostics import pit, uniformity_test
from posterity.inference.diagnostics.sources.reading import read
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


def test_angles_are_the_same_after_a_turn():
    """y and y + 2 pi are one angle, with one PIT; 2,000 of a right model are uniform (seed 6)."""
    torch.manual_seed(6)
    angles = Mixture(
        Categorical(logits=torch.zeros(2000, 2).double()),
        VonMises(torch.tensor([-2.0, 1.0]).double().expand(2000, 2), torch.tensor([1.0, 4.0]).double().expand(2000, 2)),
    )
    y = angles.sample()
    found = pit(angles, y)
    np.testing.assert_allclose(pit(angles, y + 2 * np.pi).pit, found.pit, atol=1e-9)
    assert float(uniformity_test(found, "ks").p_value) > 1e-3


def test_tails_of_counts_share_the_probability_of_y_at_random():
    """P(Y <= y) less a part of P(Y = y), and P(Y > y) more by the same part."""
    counts = Mixture(Categorical(logits=torch.zeros(500, 1)), Poisson(torch.full((500, 1), 3.0)))
    y = torch.full((500,), 2.0)
    lower, upper = read(counts, y).tails(seed=0)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-6)
    below, at = stats.poisson.cdf(1, 3), stats.poisson.pmf(2, 3)
    assert stats.kstest((lower - below) / at, "uniform").pvalue > 1e-3


def test_the_density_on_a_grid_has_the_probability_one():
    model = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.0])).expand([3])
    grid = np.linspace(-9, 12, 4001)
    density = np.exp(read(model, needs_y=False).log_density(grid))
    assert density.shape == (4001, 3)
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=0), 1, rtol=1e-8)


def test_quantiles_of_the_mean_are_those_of_the_draws_by_weight():
    """Means 0, 1, 2 with weights 0.5, 0.2, 0.3."""
    loc = torch.tensor([[0.0], [2.0], [1.0]]).double().expand(3, 4)
    draws = PredictiveMixture.from_draws(Normal(loc, 1.0), torch.tensor([0.5, 0.3, 0.2]).double().log())
    found = read(draws, needs_y=False).mean_quantiles(np.array([0.1, 0.6, 0.9]))
    np.testing.assert_array_equal(found, np.repeat([[0.0], [1.0], [2.0]], 4, axis=1))


def test_the_rank_of_a_density_is_its_highest_density_level():
    """For a standard normal at y the level is 2 Phi(|y|) - 1, and 4,000 draws give it within 4 errors."""
    y = torch.tensor([0.0, 0.5, -1.0, 2.0]).double()
    model = Mixture.normal(torch.zeros(4, 1), torch.zeros(4, 1), torch.ones(4, 1))
    found = read(model, y).density_rank(4000, seed=0)
    exact = 2 * stats.norm.cdf(np.abs(y.numpy())) - 1
    assert np.abs(found - exact).max() < 4 * 0.5 / np.sqrt(4000)
    assert read(model, y).density_draws(None) == 999
    assert read(model, y).density_draws(7) == 7


def test_pulls_from_drawn_components_of_a_right_model_are_normal():
    """Of two overlapping components of different widths, 4,000 observations; seed 0."""
    model = Mixture.normal(torch.zeros(2), torch.tensor([0.0, 1.0]), torch.tensor([0.5, 2.0])).expand([4000])
    torch.manual_seed(0)
    component, values = read(model, model.sample()).component_pulls(seed=1)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(component.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_angles_have_no_line_and_other_values_no_support():
    angles = Mixture(Categorical(logits=torch.zeros(2, 1)), VonMises(torch.zeros(2, 1), torch.ones(2, 1)))
    source = read(angles, torch.tensor([0.0, 7.0]))
    np.testing.assert_allclose(source.observed, [0.0, 7.0 - 2 * np.pi])
    with pytest.raises(ValueError, match="expected a target on a line, got angles"):
        source.require_line()
    counts = Mixture(Categorical(logits=torch.zeros(2, 1)), Poisson(torch.ones(2, 1)))
    with pytest.raises(ValueError, match="expected y in the support of Poisson components, got 1 of 2 outside"):
        read(counts, torch.tensor([1.0, -1.0]))
