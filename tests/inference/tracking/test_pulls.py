"""Pulls of sets: standard normal if and only if the intensity is right. Seed 0."""

import math

import pytest
import torch

from posterity.inference.tracking import set_pulls
from posterity.models.mixtures import Mixture
from posterity.models.tracking import TrackIntensity, TrackSet


def intensity(events: int, *, wider: float = 1.0) -> TrackIntensity:
    """Two overlapping candidates of two components each, and two cells."""
    random = torch.Generator().manual_seed(0)
    loc = torch.tensor([[[5.0, 5.0], [6.0, 5.5]], [[5.5, 6.5], [7.0, 7.0]]], dtype=torch.double)
    tril = torch.diag_embed(0.4 + torch.rand(2, 2, 2, dtype=torch.double, generator=random))
    tril[..., 1, 0] = 0.5
    mixture = Mixture.multivariate_normal(
        torch.tensor([[0.3, -0.4], [0.0, 1.0]], dtype=torch.double).expand(events, 2, 2),
        loc.expand(events, 2, 2, 2),
        (wider * tril).expand(events, 2, 2, 2, 2),
    )
    return TrackIntensity(
        torch.tensor([0.2, 1.5], dtype=torch.double).expand(events, 2),
        mixture,
        torch.tensor([-1.0, -2.0], dtype=torch.double).expand(events, 2),
        torch.tensor([[6.0, 6.0], [9.0, 4.0]], dtype=torch.double),
        0.5,
    )


def drawn(events: int) -> torch.Tensor:
    torch.manual_seed(0)
    return TrackSet(intensity(events)).sample()


def test_pulls_of_draws_are_standard_normal() -> None:
    """Mean, width and fourth moment of both intercepts, and the share of each part, within 4 standard errors."""
    events = 20_000
    tracks = drawn(events)
    result = set_pulls(intensity(events), tracks, seed=1)
    there = ~tracks.isnan().any(-1)
    pulls = result.pull[there]
    n = len(pulls)
    assert bool((pulls.mean(0).abs() < 4 / math.sqrt(n)).all())
    assert bool(((pulls.var(0) - 1).abs() < 4 * math.sqrt(2 / n)).all())
    assert bool(((pulls**4).mean(0).sub(3).abs() < 4 * math.sqrt(96 / n)).all())
    rates = torch.tensor([math.exp(-1) + math.exp(-2), 1 / (1 + math.exp(-0.2)), 1 / (1 + math.exp(-1.5))])
    share = torch.bincount(result.candidate[there] + 1, minlength=3) / n
    expected = rates / rates.sum()
    assert bool(((share - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all())


def test_a_wide_or_shifted_intensity_is_detected() -> None:
    events = 4000
    tracks = drawn(events)
    there = ~tracks.isnan().any(-1)
    wide = set_pulls(intensity(events, wider=2.0), tracks, seed=1).pull[there]
    assert bool((wide.std(0) < 0.85).all())
    moved = set_pulls(intensity(events), tracks + 0.5, seed=1).pull[there]
    assert bool((moved.mean(0) > 0.2).all())


def test_pulls_of_a_single_candidate_are_those_of_its_marginals() -> None:
    loc, tril = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[[2.0, 0.0], [3.0, 4.0]]]]])
    single = TrackIntensity(
        torch.full((1, 1), 20.0), Mixture.multivariate_normal(torch.zeros(1, 1, 1), loc, tril),
        torch.full((1, 1), -torch.inf), torch.zeros(1, 2), 0.5,
    )  # fmt: skip
    tracks = torch.tensor([[[5.0, -1.0], [torch.nan, torch.nan], [3.0, 84.0]]])
    result = set_pulls(single, tracks, seed=0)
    torch.testing.assert_close(result.pull[0, 0], torch.tensor([1.0, -1.0], dtype=torch.double))
    assert float(result.pull[0, 2, 1]) == pytest.approx(16.0)  # far in the upper tail
    assert bool(result.pull[0, 1].isnan().all() and result.sd[0, 1].isnan().all())
    torch.testing.assert_close(result.sd[0, 0], torch.tensor([2.0, 5.0], dtype=torch.double))
    assert result.candidate.tolist() == [[0, -1, 0]]


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected tracks of shape \(3, T, 2\), got \(2, 1, 2\)"):
        set_pulls(intensity(3), torch.zeros(2, 1, 2), seed=0)
    with pytest.raises(ValueError, match="expected intensity to be the TrackIntensity of a finder, got FoundTracks"):
        set_pulls(intensity(2).detect(), torch.zeros(2, 1, 2), seed=0)
    with pytest.raises(ValueError, match="expected rows of tracks with two finite numbers, or two NaN for no track"):
        set_pulls(intensity(1), torch.tensor([[[1.0, torch.nan]]]), seed=0)
