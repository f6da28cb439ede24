"""Matches of found with true tracks: by hand, by brute force, and in any order."""

import math

import pytest
import torch

from posterity.data.tracks import track_distances
from posterity.inference.tracking import match

NONE = [math.nan, math.nan]


def test_an_event_by_hand():
    """True: A, B, C. Found: two near A, one near C, one far from all, and a missing row."""
    true = torch.tensor([[[1.0, 5.0], [8.0, 2.0], [20.0, 20.0], NONE]])
    found = torch.tensor([[[1.4, 5.0], [1.1, 5.1], NONE, [20.0, 19.0], [12.0, 12.0]]])
    matches = match(found, true)
    assert matches.true_index.tolist() == [[-1, 0, -1, 2, -1]]
    assert matches.found_index.tolist() == [[1, -1, 3, -1]]
    assert matches.duplicate.tolist() == [[True, False, False, False, False]]
    assert matches.fake.tolist() == [[False, False, False, False, True]]
    assert matches.rates() == {"efficiency": 2 / 3, "fake_rate": 1 / 4, "duplicate_rate": 1 / 4}


def test_the_distance_is_the_root_mean_square_along_the_track():
    found, true = torch.tensor([[[1.0, 4.0]]]), torch.tensor([[[0.0, 6.0], [1.0, 4.0]]])
    u = torch.linspace(0, 1, 100_001, dtype=torch.double)
    expected = torch.lerp(torch.tensor(1.0).double(), torch.tensor(-2.0).double(), u).square().mean().sqrt()
    assert track_distances(found, true)[0, 0].tolist() == pytest.approx([float(expected), 0.0], abs=1e-4)


def test_counts_add_up_and_do_not_depend_on_the_order():
    random = torch.Generator().manual_seed(0)
    true = 6 * torch.rand(40, 5, 2, generator=random)
    found = 6 * torch.rand(40, 7, 2, generator=random)
    true[torch.rand(40, 5, generator=random) < 0.3] = math.nan
    found[torch.rand(40, 7, generator=random) < 0.3] = math.nan
    matches = match(found, true)
    kinds = matches.fake.int() + matches.duplicate.int() + (matches.true_index >= 0).int()
    assert torch.equal(kinds, matches.found.int())
    assert int((matches.true_index >= 0).sum()) == int((matches.found_index >= 0).sum())
    order = torch.randperm(7, generator=random)
    assert match(found[:, order], true[:, torch.randperm(5, generator=random)]).rates() == matches.rates()
    for event, row in (matches.true_index >= 0).nonzero().tolist():
        chosen = int(matches.true_index[event, row])
        away = track_distances(found[event : event + 1], true[event : event + 1])[0]
        assert float(away[row, chosen]) == float(away[row].nan_to_num(math.inf).min()) < 1


@pytest.mark.parametrize(("found", "true"), [(0, 3), (2, 0), (0, 0)])
def test_rates_without_tracks_are_nan(found, true):
    rates = match(torch.zeros(4, found, 2), torch.zeros(4, true, 2)).rates()
    assert math.isnan(rates["efficiency"]) == (true == 0)
    assert math.isnan(rates["fake_rate"]) == (found == 0)
    assert rates["efficiency"] == 0 or true == 0
    assert rates["fake_rate"] == 1 or found == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: match(torch.zeros(3, 2), torch.zeros(3, 4, 2)), r"expected found \(N, F, 2\) .* got \(3, 2\)"),
        (lambda: match(torch.zeros(3, 4, 2), torch.zeros(2, 4, 2)), r"got \(3, 4, 2\) and \(2, 4, 2\)"),
        (
            lambda: match([1.0], torch.zeros(3, 4, 2)),
            "expected tensors of found and true tracks, .* got list and Tensor",
        ),
        (
            lambda: match(torch.zeros(3, 4, 2), torch.zeros(3, 4, 2), max_distance=0.0),
            "expected max_distance to be a finite number above 0, got 0.0",
        ),
    ],
)
def test_bad_arguments_of_match_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
