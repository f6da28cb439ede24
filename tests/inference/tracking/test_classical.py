"""The classical finders: clear tracks are found once, and nothing is found in noise."""

import pytest
import torch

from posterity.data.tracks import Detector
from posterity.inference.tracking import combinatorial_annealed, hough_kalman, match, tune_threshold
from posterity.models.tracking.roads import hough_matrix

FINDERS = [hough_kalman, combinatorial_annealed]


@pytest.mark.parametrize("finder", FINDERS)
def test_clear_tracks_are_found_where_they_are(finder):
    """Two tracks with little noise, seed 0: over 90 % are found, with the error of least squares (0.105 pixels)."""
    detector = Detector(efficiency=0.98, noise=0.02)
    events = detector.simulate(150, tracks=2, seed=0)
    found = finder(detector, events.images, 0.7)
    matches = match(found, events.tracks)
    rates = matches.rates()
    assert rates["efficiency"] > 0.9
    assert rates["fake_rate"] < 0.03
    assert rates["duplicate_rate"] < 0.03
    event, row = (matches.true_index >= 0).nonzero(as_tuple=True)
    away = found[event, row] - events.tracks[event, matches.true_index[event, row]]
    assert float(away.abs().median()) < 0.12


@pytest.mark.parametrize("finder", FINDERS)
def test_in_noise_alone_little_is_found(finder):
    events = Detector(noise=0.1).simulate(100, tracks=0, seed=0)
    assert int((~finder(Detector(noise=0.1), events.images, 0.8)[..., 0].isnan()).sum()) == 0


@pytest.mark.parametrize("finder", FINDERS)
def test_empty_images_have_no_tracks(finder):
    found = finder(Detector(size=8, layers=8), torch.zeros(3, 1, 8, 8), 0.5)
    assert found.shape == (3, 16, 2)
    assert bool(found.isnan().all())


def test_the_threshold_is_tuned_to_the_noise():
    quiet, loud = Detector(noise=0.02), Detector(noise=0.3)
    chosen = [tune_threshold(hough_kalman, one, one.simulate(60, tracks=2, seed=1)) for one in (quiet, loud)]
    assert chosen[0] <= chosen[1]


@pytest.mark.parametrize("finder", FINDERS)
def test_bad_arguments_of_finders_are_refused(finder):
    detector = Detector(size=8, layers=8)
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, 8, 8\), N of 1 or more, got \(3, 8, 8\)"):
        finder(detector, torch.zeros(3, 8, 8), 0.5)
    for threshold in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"expected threshold to be a number in \(0, 1\]"):
            finder(detector, torch.zeros(3, 1, 8, 8), threshold)
    with pytest.raises(ValueError, match="expected max_tracks to be a whole number of 1 or more, got 0"):
        finder(detector, torch.zeros(3, 1, 8, 8), 0.5, max_tracks=0)
    with pytest.raises(ValueError, match="expected events with tracks to tune on, got none"):
        tune_threshold(finder, detector, detector.simulate(3, tracks=0, seed=0))


def test_one_of_equal_peaks_of_the_hough_map_is_a_candidate():
    """Every second cell along a line has equal votes; in each of 40 events of one track without noise, one is found."""
    detector = Detector(noise=0.0, efficiency=1.0)
    events = detector.simulate(40, tracks=1, seed=0)
    fired = events.images[:, 0].flatten(1).double()
    assert int((fired @ hough_matrix(28, 28, 2).double() == 28).sum(1).max()) > 1
    found = hough_kalman(detector, events.images, 0.9)
    assert (~found[..., 0].isnan()).sum(1).tolist() == [1] * 40


@pytest.mark.parametrize("finder", FINDERS)
def test_a_threshold_of_hits_over_layers_is_reached_by_as_many_hits(finder):
    """25/29 times 29 is a little more than 25 in floating point."""
    hits, layers = next((h, n) for n in (29, 31, 37, 41, 49) for h in range(n // 2, n) if h / n * n > h)
    image = torch.zeros(1, 1, 9, layers)
    image[0, 0, 4, :hits] = 1
    image[0, 0, 4, -2:] = 1
    image[0, 0, 4, 5:7] = 0
    detector = Detector(size=9, layers=layers)
    seen = int(image.sum())
    assert seen == hits
    found = finder(detector, image, seen / layers)
    assert int((~found[..., 0].isnan()).sum()) == 1
