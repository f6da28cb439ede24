"""Intensities of tracks: integrals, sets in any order, draws within 5 standard errors."""

import itertools
import math

import pytest
import torch

from posterity.models.mixtures import Mixture
from posterity.models.tracking import (
    TrackIntensity,
    TrackSet,
)
from tests.models.tracking.cases import intensity


def test_the_integral_of_an_intensity_is_the_expected_number():
    found = intensity()
    at = torch.arange(0.05, 20, 0.1, dtype=torch.double)
    plane = torch.cartesian_prod(at, at).expand(2, -1, -1)
    total = found.log_intensity(plane).exp().sum(1) * 0.01
    torch.testing.assert_close(total, found.log_total.exp(), rtol=1e-6, atol=0)
    density = found.single().log_prob(plane[0, :500, None].expand(-1, 2, -1))
    torch.testing.assert_close(density, found.single_log_prob(plane[:, :500]).T)
    torch.testing.assert_close(
        found.single_log_prob(plane).exp().sum(1) * 0.01, torch.ones(2, dtype=torch.double), rtol=1e-6, atol=0
    )


def test_one_track_is_where_the_odds_say():
    """Independent candidates that exist or not: frequencies of each among the events with exactly one.

    20,000 draws, 5 standard errors; the odds are 1 to 3 and 4 to 1, and those of neither 1 to 2.
    """
    random = torch.Generator().manual_seed(0)
    exists = torch.rand(20_000, 2, generator=random) < torch.tensor([0.25, 0.8])
    one = exists[exists.sum(1) == 1]
    share = one.double().mean(0)
    normal = Mixture.multivariate_normal(
        torch.zeros(1, 2, 1), torch.zeros(1, 2, 1, 2), torch.eye(2).expand(1, 2, 1, 2, 2)
    )
    odds = torch.tensor([[1 / 3, 4.0]])
    said = TrackIntensity(odds.log(), normal, torch.full((1, 1), 0.5).log(), torch.zeros(1, 2), 0.5)
    torch.testing.assert_close(said.log_rates.exp(), torch.tensor([[0.25, 0.8]]))
    weights = said.single().log_weights[0].exp().double()
    assert bool(((weights[:2] / weights[:2].sum() - share).abs() < 5 * (0.25 / len(one)) ** 0.5).all())
    assert float(weights[2]) == pytest.approx(1 / 3)


def test_sets_have_the_density_of_a_poisson_process():
    """One half of the plane at a time: the probability of no track in it is exp(-expected number there)."""
    found = intensity()
    sets = TrackSet(found)
    empty = torch.full((2, 3, 2), torch.nan, dtype=torch.double)
    torch.testing.assert_close(sets.log_prob(empty), -found.log_total.exp())
    torch.testing.assert_close(sets.log_prob(empty[:, :0]), -found.log_total.exp())
    some = empty.clone()
    some[:, 1], some[:, 2] = torch.tensor([8.0, 9.0]), torch.tensor([10.0, 7.0])
    expected = found.log_intensity(some[:, 1:]).sum(1) - found.log_total.exp()
    for order in itertools.permutations(range(3)):
        torch.testing.assert_close(sets.log_prob(some[:, list(order)]), expected)


def test_draws_are_as_many_and_where_they_should_be():
    torch.manual_seed(0)
    found, draws = intensity(), 4000
    sample = TrackSet(found).sample((draws,))
    assert sample.shape[:2] == (draws, 2)
    density = TrackSet(found).log_prob(sample[:3])
    torch.testing.assert_close(density, torch.stack([TrackSet(found).log_prob(one) for one in sample[:3]]))
    present = ~sample[..., 0].isnan()
    count, total = present.sum(-1).double(), found.log_total.exp()
    assert bool(((count.mean(0) - total).abs() < 5 * (total / draws).sqrt()).all())
    assert bool(((count.var(0) - total).abs() < 5 * ((total + 2 * total**2) / draws).sqrt()).all())
    where = found.normalized()
    mean, sd = where.mean, where.variance.sqrt()
    for event in range(2):
        there = sample[:, event][present[:, event]]
        assert bool(((there.mean(0) - mean[event]).abs() < 5 * sd[event] / math.sqrt(len(there))).all())


def test_candidates_of_one_place_are_one_track():
    """By hand: existence 0.6 and 0.3 half a pixel apart, 0.4 and 0.8 elsewhere."""
    at = torch.tensor([[[5.0, 5.0], [5.5, 5.0], [2.0, 9.0], [9.0, 1.0]]])
    rates = torch.tensor([[0.6, 0.3, 0.4, 0.8]])
    normal = Mixture.multivariate_normal(torch.zeros(1, 4, 1), at[:, :, None], 0.1 * torch.eye(2).expand(1, 4, 1, 2, 2))
    said = TrackIntensity(rates.logit(), normal, torch.full((1, 1), -9.0), torch.zeros(1, 2), 0.5)
    found = said.detect()
    torch.testing.assert_close(found.tracks[0, :2], torch.tensor([[9.0, 1.0], [5.0, 5.0]]))
    assert bool(found.tracks[0, 2:].isnan().all())
    torch.testing.assert_close(found.existence[0, :2], torch.tensor([0.8, 0.9]))
    torch.testing.assert_close(found.covariance[0, :2], 0.01 * torch.eye(2).expand(2, 2, 2))
    assert int((~said.detect(min_existence=0.35, merge_distance=0.1).existence.isnan()).sum()) == 3
    torch.testing.assert_close(said.log_rates.exp(), rates)
