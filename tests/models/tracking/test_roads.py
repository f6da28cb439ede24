"""Maps of hits, against counts of pixels one by one."""

import itertools

import torch

from posterity.data.tracks import Detector
from posterity.models.tracking import (
    HoughMap,
    RoadMap,
)
from posterity.models.tracking.roads import hits_on, hough_matrix


def test_the_maps_count_fired_pixels_on_tracks():
    detector = Detector(size=9, layers=7, noise=0.3)
    images = detector.simulate(3, tracks=2, seed=0).images.float()
    votes = HoughMap(9, 7, per_pixel=2)(images)
    assert votes.shape == (3, 1, 18, 18)
    for first, last in ((0, 0), (5, 17), (11, 2)):
        track = torch.tensor([[(first + 0.5) / 2, (last + 0.5) / 2]])
        rows = detector.crossed(track)[0]
        expected = images[:, 0, rows, torch.arange(7)].sum(1) / 7
        torch.testing.assert_close(votes[:, 0, first, last], expected)
    assert hough_matrix(9, 7).sum(0).unique().tolist() == [7.0]


def test_the_fine_map_counts_around_a_track_and_nothing_outside_the_detector():
    """Exactly where no track comes within 1/64 of a border of pixels in any layer."""
    detector = Detector(size=9, layers=7, noise=0.4)
    images = detector.simulate(2, tracks=1, seed=0).images.float()
    centres = torch.tensor([[[4.03, 5.21], [0.4, 8.7]], [[2.5, 2.5], [7.0, 1.0]]])
    roads = RoadMap(9, 7, points=8, step=1 / 8)
    counted = roads(images, centres)
    assert counted.shape == (2, 2, 64)
    tracks = centres[:, :, None] + roads.offsets
    y = detector.positions(tracks)
    safe = ((y - y.round()).abs() > 1 / 15).all(-1)
    rows = y.floor().long()
    inside = (rows >= 0) & (rows < 9)
    columns = images[:, 0].transpose(1, 2)
    expected = torch.zeros(2, 2, 64)
    for event, near, point in itertools.product(range(2), range(2), range(64)):
        own = rows[event, near, point].clamp(0, 8)
        expected[event, near, point] = (columns[event, torch.arange(7), own] * inside[event, near, point]).sum()
    assert int(safe.sum()) > 20
    assert torch.equal(counted[safe], expected[safe])


def test_hits_on_tracks_are_those_of_the_pixels_they_cross():
    detector = Detector(size=9, layers=7, noise=0.4)
    images = detector.simulate(3, tracks=1, seed=0).images.float()
    tracks = 13 * torch.rand(3, 50, 2, generator=torch.Generator().manual_seed(1)) - 2
    rows = detector.crossed(tracks)
    inside = (rows >= 0) & (rows < 9)
    event, layer = torch.arange(3)[:, None, None], torch.arange(7)
    expected = (images[event, 0, rows.clamp(0, 8), layer] * inside).sum(-1)
    assert torch.equal(hits_on(images, tracks), expected)
