"""Replicated data sets come from one posterior draw each; distances of several targets are Mahalanobis'."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import mahalanobis
from torch.distributions import Normal

from posterity.inference.diagnostics.sources import mixture_targets
from posterity.inference.diagnostics.sources.mixture_targets import component_distances, replicates
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


@pytest.mark.parametrize("numbers", [2**23, 40], ids=["at once", "in chunks"])
def test_each_data_set_is_of_one_draw_and_draws_are_used_by_their_weights(monkeypatch, numbers):
    monkeypatch.setattr(mixture_targets, "SETS", numbers)
    loc = torch.tensor([0.0, 10.0, 20.0]).double()[:, None].expand(3, 4)
    draws = PredictiveMixture.from_draws(Normal(loc, 0.1), torch.tensor([0.2, 0.5, 0.3]).double().log())
    sets = np.concatenate(list(replicates(draws, 50, seed=0)))
    assert sets.shape == (50, 4)
    assert np.ptp(sets, axis=1).max() < 2
    assert np.bincount(np.round(sets[:, 0] / 10).astype(int)).tolist() == [10, 25, 15]


def test_observations_of_a_bare_mixture_are_independent():
    """Correlation 0 of two observations, within five standard errors of 4,000 data sets."""
    mixture = Mixture.normal(torch.zeros(2, 2), torch.tensor([-5.0, 5.0]).expand(2, 2), torch.ones(2, 2))
    sets = np.concatenate(list(replicates(mixture, 4000, seed=0)))
    assert abs(np.corrcoef(sets.T)[0, 1]) < 5 / np.sqrt(4000)


def test_distances_are_scipys_from_the_only_component_that_is_near():
    rng = np.random.default_rng(0)
    root = torch.tensor(np.tril(rng.normal(size=(5, 2, 3, 3))) + 2 * np.eye(3))
    loc = torch.tensor(rng.normal(size=(5, 2, 3))) + torch.tensor([0.0, 1e3])[:, None]
    mixture = Mixture.multivariate_normal(torch.zeros(5, 2).double(), loc, root)
    near = np.array([0, 1, 0, 0, 1])
    centre = loc[torch.arange(5), near]
    y = centre + torch.tensor(rng.normal(size=(5, 3)))
    chosen, squared = component_distances(mixture, y, seed=0)
    np.testing.assert_array_equal(chosen, near)
    covariance = (root @ root.mT)[torch.arange(5), near].numpy()
    expected = [
        mahalanobis(a, b, np.linalg.inv(c)) ** 2 for a, b, c in zip(y.numpy(), centre.numpy(), covariance, strict=True)
    ]
    np.testing.assert_allclose(squared, expected, rtol=1e-6)


def test_replicates_take_draws_by_their_weights():
    loc = torch.tensor([[0.0], [10.0], [20.0]]).double().expand(3, 5)
    weights = torch.tensor([0.5, 0.2, 0.3]).double()
    draws = PredictiveMixture.from_draws(dist.Normal(loc, 0.1), weights.log())
    made = np.concatenate(list(replicates(draws, 100, seed=0)))
    assert made.shape == (100, 5)
    assert np.bincount(np.round(made[:, 0] / 10).astype(int)).tolist() == [50, 20, 30]
    assert np.ptp(made, axis=1).max() < 1


def test_replicates_of_components_are_mixed_within_a_draw(monkeypatch):
    """Two draws of two components each: in a replicate both components of one draw are seen, in blocks of rows too."""
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 64)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.mixture_targets.SETS", 400)
    components = dist.Normal(torch.tensor([[0.0, 1.0], [10.0, 11.0]]).double()[:, None].expand(2, 40, 2), 0.01)
    likelihood = dist.MixtureSameFamily(dist.Categorical(torch.ones(2, 40, 2).double()), components)
    draws = PredictiveMixture.from_draws(likelihood)
    parts = list(replicates(draws, 30, seed=1))
    assert len(parts) > 1
    made = np.round(np.concatenate(parts))
    for row in made:
        assert sorted(set(row)) in ([0.0, 1.0], [10.0, 11.0])
    assert (made[:, 0] < 5).sum() == 15


def test_distances_from_components_are_chi_squared_for_a_right_model():
    """Of D = 3 targets and 3,000 rows: the level of Kolmogorov's test is kept; seed 0."""
    logits, loc = torch.zeros(3000, 2), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).expand(3000, 2, 3)
    model = Mixture.multivariate_normal(logits, loc, torch.tensor([1.0, 0.5, 2.0]).expand(3000, 2, 3))
    torch.manual_seed(0)
    component, squared = component_distances(model, model.sample().double(), seed=1)
    assert set(component) == {0, 1}
    assert stats.kstest(squared, stats.chi2(3).cdf).pvalue > 1e-3
