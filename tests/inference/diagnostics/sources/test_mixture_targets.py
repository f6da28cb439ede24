"""Replicated data sets by the weights of the draws, and distances of several targets from components."""

import numpy as np
import pyro.distributions as dist
import torch
from scipy import stats

from posterity.inference.diagnostics.sources.mixture_targets import component_distances, replicates
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


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
