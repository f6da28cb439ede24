"""Tracks through a detector: what is crossed, how often pixels fire, the exact likelihood and the known limits.

Statistical tests have seed 0 and tolerances of 5 standard errors.
"""

import itertools
import math

import pytest
import torch

from posterity.data.tracks import Detector, check_tracks, intercept_covariance, normal_hits, proper_rows


def test_a_track_crosses_the_pixels_of_a_line_through_both_intercepts():
    detector = Detector(size=8, layers=5)
    tracks = torch.tensor([[0.5, 4.5], [7.9, 0.0]])
    torch.testing.assert_close(
        detector.positions(tracks), torch.tensor([[0.5, 1.5, 2.5, 3.5, 4.5], [7.9, 5.925, 3.95, 1.975, 0.0]])
    )
    assert detector.crossed(tracks).tolist() == [[0, 1, 2, 3, 4], [7, 5, 3, 1, 0]]
    bent = detector.positions(tracks[0], torch.tensor(2.0))  # its sagitta is how far the middle is off
    torch.testing.assert_close(bent - detector.positions(tracks[0]), torch.tensor([0.0, 1.5, 2.0, 1.5, 0.0]))


def test_without_noise_and_losses_an_image_is_its_tracks():
    detector = Detector(size=20, layers=12, efficiency=1.0, noise=0.0)
    events = detector.simulate(50, tracks=2, seed=0)
    rows = detector.crossed(events.tracks)
    expected = torch.zeros(50, 20, 12, dtype=torch.uint8)
    for event, track, layer in itertools.product(range(50), range(2), range(12)):
        expected[event, rows[event, track, layer], layer] = 1
    assert torch.equal(events.images[:, 0], expected)
    assert bool(events.hits.all())


def test_pixels_fire_as_often_as_they_should():
    """Off the track by noise; on it 1 - (1 - e)(1 - p); crossed by two, 1 - (1 - e)²(1 - p)."""
    detector, n = Detector(efficiency=0.8, noise=0.2), 4000
    events = detector.simulate(n, tracks=2, seed=0)
    rows = detector.crossed(events.tracks)
    crossings = torch.zeros(n, 28, 28).scatter_add_(1, rows[:, :1], torch.ones(n, 1, 28))
    crossings.scatter_add_(1, rows[:, 1:], torch.ones(n, 1, 28))
    for k, expected in ((0, 0.2), (1, 1 - 0.2 * 0.8), (2, 1 - 0.04 * 0.8)):
        fired = events.images[:, 0][crossings == k].double()
        assert float(fired.mean()) == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / len(fired)))
    share = events.hits.double().mean()
    assert float(share) == pytest.approx(0.8, abs=5 * math.sqrt(0.16 / events.hits.numel()))


def test_tracks_are_uniform_and_their_number_is_poisson():
    events = Detector().simulate(5000, mean_tracks=2.5, seed=0)
    count = events.count.double()
    assert float(count.mean()) == pytest.approx(2.5, abs=5 * math.sqrt(2.5 / 5000))
    assert float(count.var()) == pytest.approx(2.5, abs=5 * math.sqrt((2.5 + 2 * 2.5**2) / 5000))
    there = events.tracks[events.present]
    assert bool((there >= 0).all() and (there < 28).all())
    torch.testing.assert_close(there.mean(0), torch.tensor([14.0, 14.0]), rtol=0, atol=5 * 28 / math.sqrt(12 * 12500))
    assert bool(events.tracks[~events.present].isnan().all())
    assert not bool(events.hits[~events.present].any())


def test_no_tracks_are_noise_alone():
    events = Detector(noise=0.3).simulate(200, tracks=0, seed=0)
    assert events.tracks.shape == (200, 0, 2)
    pixels = events.images.double()
    assert float(pixels.mean()) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / pixels.numel()))


@pytest.mark.parametrize("tracks", [0, 1, 2, 3])
def test_the_likelihood_of_all_images_sums_to_one(tracks):
    detector = Detector(size=3, layers=3, efficiency=0.7, noise=0.15)
    images = torch.tensor(list(itertools.product([0, 1], repeat=9))).reshape(-1, 1, 3, 3)
    where = detector.simulate(1, tracks=3, seed=0).tracks[:, :tracks].expand(len(images), -1, -1)
    log_prob = detector.log_prob(images, where)
    assert float(log_prob.logsumexp(0)) == pytest.approx(0, abs=1e-9)
    absent = torch.cat([where, torch.full((len(images), 1, 2), torch.nan)], 1)
    assert torch.equal(detector.log_prob(images, absent), log_prob)


def test_the_likelihood_is_how_often_an_image_comes():
    """Given its one track, of 2 x 2 pixels, by the events whose track crosses both upper pixels."""
    detector = Detector(size=2, layers=2, efficiency=0.75, noise=0.25)
    events = detector.simulate(40_000, tracks=1, seed=0)
    upper = (detector.crossed(events.tracks)[:, 0] == 0).all(-1)
    images, n = events.images[upper], int(upper.sum())
    code = (images.flatten(1).long() * torch.tensor([8, 4, 2, 1])).sum(-1)
    often = torch.bincount(code, minlength=16) / n
    for image, share in zip(itertools.product([0, 1], repeat=4), often.tolist(), strict=True):
        pixels = torch.tensor(image).reshape(1, 1, 2, 2)
        expected = float(detector.log_prob(pixels, torch.tensor([[[0.5, 0.5]]])).exp())
        assert share == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / n))


def test_a_curved_track_leaves_the_detector_without_hits():
    events = Detector(size=10, noise=0.0, efficiency=1.0).simulate(300, tracks=1, sagitta=6.0, seed=0)
    assert set(events.sagittas.flatten().tolist()) == {-6.0, 6.0}
    rows = Detector(size=10).crossed(events.tracks, events.sagittas)
    outside = (rows < 0) | (rows >= 10)
    assert bool(outside.any())
    assert torch.equal(events.hits, ~outside)
    assert torch.equal(events.images.sum((1, 2, 3)), (~outside).sum((1, 2)))


def test_the_limit_of_normal_hits_is_that_of_least_squares():
    for layers in (2, 3, 10, 50):
        u = torch.linspace(0, 1, layers, dtype=torch.float64)
        design = torch.stack([1 - u, u], 1)
        torch.testing.assert_close(intercept_covariance(layers, 0.3), 0.09 * torch.linalg.inv(design.T @ design))


def test_normal_hits_lie_around_the_track():
    tracks = torch.tensor([3.0, 9.0]).expand(20_000, 2)
    hits = normal_hits(tracks, 4, 0.5, seed=0)
    torch.testing.assert_close(
        hits.mean(0), torch.tensor([3.0, 5.0, 7.0, 9.0]), rtol=0, atol=5 * 0.5 / math.sqrt(20_000)
    )
    torch.testing.assert_close(hits.std(0), torch.full((4,), 0.5), rtol=5 / math.sqrt(40_000), atol=0)


def test_the_same_seed_gives_the_same_events_and_leaves_torch_alone():
    before = torch.random.get_rng_state()
    first, second = (Detector().simulate(7, mean_tracks=3.0, sagitta=1.0, seed=4) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.tracks.nan_to_num(), second.tracks.nan_to_num())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_row_is_two_numbers_or_two_nan_in_a_table_of_the_events_asked_for():
    rows = torch.tensor([[1.0, -2.0], [math.nan, math.nan], [1.0, math.nan], [math.inf, 1.0], [math.inf, math.nan]])
    assert proper_rows(rows).tolist() == [True, True, False, False, False]
    assert proper_rows(torch.zeros(4, 0, 2)).shape == (4, 0)
    check_tracks(rows[:2].expand(3, 2, 2), 3)
    check_tracks(torch.zeros(3, 0, 2), 3)
    check_tracks(rows.expand(3, 5, 2), 3, rows=False)
    check_tracks(torch.zeros(7, 4, 3, 5, 2), 3, draws=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Detector(size=1), "expected size to be a whole number of 2 or more, got 1"),
        (lambda: Detector(layers=0), "expected layers to be a whole number of 2 or more, got 0"),
        (lambda: Detector(efficiency=0.0), r"expected efficiency to be a number in \(0, 1\], got 0.0"),
        (lambda: Detector(noise=1.0), r"expected noise to be a number in \[0, 1\), got 1.0"),
        (lambda: Detector(noise=math.nan), r"expected noise to be a number in \[0, 1\), got"),
        (lambda: Detector().simulate(0, tracks=1, seed=0), "expected n to be a whole number of 1 or more"),
        (
            lambda: Detector().simulate(5, tracks=-1, seed=0),
            "expected tracks to be a whole number of 0 or more, got -1",
        ),
        (
            lambda: Detector().simulate(5, mean_tracks=-1.0, seed=0),
            "expected mean_tracks to be a finite .*, got -1.0",
        ),
        (lambda: Detector().simulate(5, seed=0), "expected either tracks or mean_tracks, got tracks=None"),
        (
            lambda: Detector().simulate(5, tracks=1, sagitta=math.nan, seed=0),
            "expected sagitta to be a finite",
        ),
        (lambda: Detector().simulate(5, tracks=1, seed="a"), "expected seed to be an int"),
        (
            lambda: Detector().log_prob(torch.zeros(5, 28, 28), torch.zeros(5, 1, 2)),
            r"expected images of shape \(N, 1, 28, 28\), N of 1 or more, got \(5, 28, 28\)",
        ),
        (
            lambda: Detector().check(torch.zeros(0, 1, 28, 28)),
            r"expected images of shape \(N, 1, 28, 28\), N of 1 or more, got \(0, 1, 28, 28\)",
        ),
        (
            lambda: Detector().log_prob(torch.zeros(5, 1, 28, 28), torch.zeros(4, 1, 2)),
            r"expected tracks of shape \(5, T, 2\), got \(4, 1, 2\)",
        ),
        (
            lambda: Detector().log_prob(torch.full((5, 1, 28, 28), 0.5), torch.zeros(5, 1, 2)),
            "expected pixels to be 0 or 1",
        ),
        (
            lambda: Detector().log_prob(torch.zeros(1, 1, 28, 28), torch.tensor([[[1.0, math.nan]]])),
            "expected rows of tracks with two finite numbers, or two NaN for no track, got other values",
        ),
        (
            lambda: Detector().log_prob(torch.zeros(1, 1, 28, 28), torch.ones(1, 1, 2, dtype=torch.long)),
            "expected tracks to be a floating tensor, got torch.int64",
        ),
        (lambda: check_tracks([[[1.0, 2.0]]], 1), r"expected tracks to be a tensor, got \[\[\[1.0, 2.0\]\]\]"),
        (lambda: check_tracks(torch.zeros(4, 3, 1, 2), 3), r"expected tracks of shape \(3, T, 2\), got \(4, 3, 1, 2\)"),
        (
            lambda: check_tracks(torch.zeros(3, 4, 1, 2), 3, draws=True),
            r"expected tracks of shape \(..., 3, T, 2\), got \(3, 4, 1, 2\)",
        ),
        (
            lambda: check_tracks(torch.tensor([[[[1.0, math.inf]]]]), 1, draws=True),
            "expected rows of tracks with two finite numbers, or two NaN",
        ),
        (lambda: normal_hits(torch.zeros(5, 3), 2, 1.0, seed=0), r"expected tracks of shape \(..., 2\)"),
        (
            lambda: Detector().check(Detector().simulate(2, tracks=1, seed=0)),
            "expected images to be a tensor, got Events",
        ),
        (lambda: intercept_covariance(1, 1.0), "expected layers to be a whole number of 2 or more"),
        (lambda: intercept_covariance(5, 0.0), "expected resolution to be a finite number above 0, got 0.0"),
        (
            lambda: normal_hits(torch.zeros(3, 2), 5, -1.0, seed=0),
            "expected resolution to be a .*, got -1.0",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
