"""Mixtures of each intercept."""

import torch

from posterity.data.tracks import Detector
from posterity.inference.training.streaming import fit_stream
from posterity.models.tracking import (
    IndependentFinder,
)


@torch.no_grad()
def test_independent_mixtures_say_nothing_of_pairs():
    """The log density of two tracks is the same when they swap their ends, and rows of NaN are ignored."""
    torch.manual_seed(0)
    finder = IndependentFinder(12, 12, components=3, hidden=16)
    images = Detector(size=12, layers=12).simulate(4, tracks=2, seed=0).images
    tracks = 12 * torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(1))
    tracks[:, 2] = torch.nan
    swapped = torch.stack([tracks[:, :, 0], tracks[:, [1, 0, 2], 1]], -1)
    torch.testing.assert_close(finder.log_prob(images, tracks), finder.log_prob(images, swapped))
    mixture = finder(images)
    expected = sum(mixture.log_prob(tracks[:, track]).sum(1) for track in range(2))
    torch.testing.assert_close(finder.log_prob(images, tracks), expected)


def test_an_independent_finder_learns_where_one_track_is():
    """In 300 steps of 128 events without noise, from a uniform density (2 log 12 = 5.0 nats) to about one pixel."""
    detector = Detector(size=12, layers=12, efficiency=1.0, noise=0.0)
    torch.manual_seed(0)
    finder = IndependentFinder(12, 12, components=3, channels=8, hidden=64)

    def loss(events):
        return -finder.log_prob(events.images, events.tracks).mean()

    found = fit_stream(
        finder, lambda random: detector.simulate(128, tracks=1, seed=random), loss,
        steps=300, learning_rate=3e-3, seed=0, progress=False,
    )  # fmt: skip
    assert found.loss[-1] < 2.0
