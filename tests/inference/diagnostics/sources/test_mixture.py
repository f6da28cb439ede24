"""Predictives that are mixtures: tails, moments, quantiles, densities and ranks against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Gamma, Normal, Poisson, VonMises

from posterity.inference.diagnostics import pit, uniformity_test
from posterity.inference.diagnostics.sources import mixture as module
from posterity.inference.diagnostics.sources.mixture import check_mixture, source_of_mixture
from posterity.inference.diagnostics.sources.reading import read
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

LOC, SCALE = np.array([-1.0, 0.5, 2.0]), np.array([0.5, 1.0, 3.0])
Y = np.array([0.0, 0.7, -4.0])


def single_normals() -> Mixture:
    """One normal for each of three observations, as two equal components."""
    loc, scale = (torch.tensor(values)[:, None].expand(3, 2) for values in (LOC, SCALE))
    return Mixture.normal(torch.zeros(3, 2).double(), loc, scale)


def test_one_normal_has_scipys_tails_moments_quantiles_and_densities():
    source, normal = source_of_mixture(single_normals(), Y, several=False), stats.norm(LOC, SCALE)
    lower, upper = source.tails(0)
    np.testing.assert_allclose(lower, normal.cdf(Y), rtol=1e-6)
    np.testing.assert_allclose(upper, normal.sf(Y), rtol=1e-6)
    np.testing.assert_allclose(source.moments(), [LOC, SCALE], rtol=1e-6)
    levels = np.array([0.05, 0.5, 0.99])
    np.testing.assert_allclose(source.quantiles(levels), normal.ppf(levels[:, None]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(source.log_score(), normal.logpdf(Y), rtol=1e-6)
    grid = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(source.log_density(grid), normal.logpdf(grid[:, None]), rtol=1e-6)


def test_tails_of_counts_divide_the_probability_of_y():
    mixture = Mixture(Categorical(torch.ones(50, 1)), Poisson(torch.full((50, 1), 2.0)))
    y = np.arange(50) % 5
    lower, upper = source_of_mixture(mixture, y, several=False).tails(seed=0)
    np.testing.assert_allclose(lower + upper, 1, atol=1e-6)
    assert (lower >= stats.poisson(2).cdf(y - 1) - 1e-6).all()
    assert (lower <= stats.poisson(2).cdf(y) + 1e-6).all()


def test_quantiles_of_the_means_are_those_of_the_weighted_draws():
    loc = torch.tensor([3.0, 1.0, 2.0]).double()[:, None].expand(3, 2)
    draws = PredictiveMixture.from_draws(Normal(loc, 1.0), torch.tensor([0.5, 0.2, 0.3]).double().log())
    source = source_of_mixture(draws, np.zeros(2), several=False)
    assert source.num_draws == 3
    levels = np.array([0.1, 0.3, 0.45, 0.6, 0.9])
    np.testing.assert_array_equal(source.mean_quantiles(levels)[:, 0], [1, 2, 2, 3, 3])


def test_ranks_among_densities_of_own_data_are_uniform():
    """Kolmogorov-Smirnov at 1e-4, with three draws only."""
    mixture = Mixture.normal(*(torch.tensor(value).expand(3000, 2) for value in ([0.0, 1.0], [-2.0, 2.0], [1.0, 0.5])))
    source = source_of_mixture(mixture, mixture.sample(), several=False)
    assert stats.kstest(source.density_rank(3, seed=1), "uniform").pvalue > 1e-4


def test_fewer_draws_are_ranked_among_densities_of_more_components(monkeypatch):
    source = source_of_mixture(single_normals(), Y, several=False)
    assert source.density_draws(7) == 7
    for densities, count in ((1, 3), (6 * 50, 50), (1e9, 999)):
        monkeypatch.setattr(module, "DENSITIES", densities)
        assert source.density_draws(None) == count


def test_pulls_are_from_the_drawn_component():
    loc = torch.tensor([-50.0, 50.0]).expand(4, 2)
    mixture = Mixture.normal(torch.zeros(4, 2), loc, torch.tensor([1.0, 2.0]).expand(4, 2))
    chosen, pulls = source_of_mixture(mixture, np.array([-49.0, 49.0, 52.0, -52.0]), several=False).component_pulls(0)
    assert chosen.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(pulls, [1.0, -0.5, 1.0, -2.0], rtol=1e-6)


def test_draws_in_chunks_are_of_each_row(monkeypatch):
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 1)
    source = source_of_mixture(single_normals(), Y, several=False)
    parts = list(source.draw_chunks(4000, seed=2))
    assert [rows for rows, _ in parts] == [slice(0, 1), slice(1, 2), slice(2, 3)]
    means = np.concatenate([part.mean(0) for _, part in parts])
    assert (np.abs(means - LOC) < 5 * SCALE / np.sqrt(4000)).all()


def test_angles_are_wrapped_and_have_no_line():
    mixture = Mixture(Categorical(torch.ones(2, 1)), VonMises(torch.zeros(2, 1), torch.ones(2, 1)))
    source = source_of_mixture(mixture, np.array([4.0, 1.0]), several=False)
    np.testing.assert_allclose(source.observed, [4.0 - 2 * math.pi, 1.0])
    with pytest.raises(ValueError, match="expected a target on a line, got angles"):
        source.require_line()


@pytest.mark.parametrize(
    ("mixture", "y", "message"),
    [
        (single_normals(), None, r"expected y of shape \(3,\) with a mixture, got None"),
        (single_normals(), np.zeros(2), r"expected y of shape \(3,\), got \(2,\)"),
        (single_normals(), np.array([0, 1, np.nan]), "expected finite y"),
        (single_normals().expand([2, 3]), np.zeros((2, 3)), r"expected a mixture of batch shape \(N,\), got \(2, 3\)"),
        (
            Mixture(Categorical(torch.ones(2, 1)), Gamma(torch.ones(2, 1), torch.ones(2, 1))),
            np.array([1.0, -1.0]),
            "expected y in the support of Gamma components, got 1 of 2 outside",
        ),
        (
            Mixture.multivariate_normal(torch.zeros(3, 1), torch.zeros(3, 1, 2), torch.eye(2).expand(3, 1, 2, 2)),
            np.zeros((3, 2)),
            r"expected a mixture of one target, got event shape \(2,\)",
        ),
    ],
)
def test_mixtures_and_observations_that_do_not_fit_are_refused(mixture, y, message):
    with pytest.raises(ValueError, match=message):
        source_of_mixture(mixture, y, several=False)


def test_another_distribution_is_no_mixture():
    with pytest.raises(ValueError, match="expected a Mixture, got Normal"):
        check_mixture(Normal(torch.zeros(3), 1.0))


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


def test_the_density_on_a_grid_has_the_probability_one():
    model = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.0])).expand([3])
    grid = np.linspace(-9, 12, 4001)
    density = np.exp(read(model, needs_y=False).log_density(grid))
    assert density.shape == (4001, 3)
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=0), 1, rtol=1e-8)


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
