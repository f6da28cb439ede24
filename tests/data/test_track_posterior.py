"""The exact posterior of one track: against sums over the whole plane, and calibrated. Seed 0, 5 standard errors."""

import itertools
import math

import pytest
import torch

from posterity.data.track_posterior import track_posterior
from posterity.data.tracks import Detector, intercept_covariance


def plane(detector: Detector, image: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of all squares of the plane, and log p(image | track) by the detector's own likelihood."""
    centres = torch.cartesian_prod(*2 * [torch.arange(step / 2, detector.size, step, dtype=torch.float64)])
    images = image.expand(len(centres), 1, -1, -1)
    return centres, detector.log_prob(images, centres[:, None])


@pytest.mark.parametrize(("efficiency", "noise"), [(0.9, 0.2), (0.6, 0.4), (1.0, 0.1), (0.95, 0.0)])
def test_moments_and_density_are_those_of_a_sum_over_the_plane(efficiency, noise):
    detector = Detector(size=6, layers=7, efficiency=efficiency, noise=noise)
    events = detector.simulate(3, tracks=1, seed=0)
    exact = track_posterior(detector, events.images, step=1 / 8, loss=1e-12)
    for event in range(3):
        centres, log_prob = plane(detector, events.images[event : event + 1], 1 / 8)
        weights = log_prob.softmax(0)
        mean = weights @ centres
        torch.testing.assert_close(exact.mean[event], mean, rtol=1e-8, atol=0)
        covariance = (weights[:, None] * (centres - mean)).T @ (centres - mean) + torch.eye(2) / 8**2 / 12
        torch.testing.assert_close(exact.covariance[event], covariance, rtol=1e-6, atol=1e-9)
        expected = (weights * (centres[:, 0] < 3)).sum()
        torch.testing.assert_close(exact.cdf(torch.full((3, 2), 3.0))[event, 0], expected, rtol=1e-6, atol=1e-9)
        density = log_prob - log_prob.logsumexp(0) - 2 * math.log(1 / 8)
        for at in (0, len(centres) // 3, int(log_prob.argmax())):
            tracks = centres[at].expand(3, -1)
            found = float(exact.log_prob(tracks)[event])
            assert found == pytest.approx(float(density[at]), abs=1e-6) or float(density[at]) < -60


def test_the_evidence_of_all_images_sums_to_one():
    detector = Detector(size=2, layers=3, efficiency=0.7, noise=0.2)
    images = torch.tensor(list(itertools.product([0, 1], repeat=6))).reshape(-1, 1, 2, 3)
    exact = track_posterior(detector, images, step=1 / 16, loss=1e-12)
    nothing = detector.log_prob(images, torch.zeros(len(images), 0, 2))
    assert float((exact.log_evidence + nothing).logsumexp(0).exp()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_true_tracks_lie_as_the_posterior_says(noise):
    """P(b' < b) is uniform: mean 1/2, variance 1/12; so does the squared distance have two degrees of freedom."""
    detector, n = Detector(noise=noise), 800
    events = detector.simulate(n, tracks=1, seed=0)
    exact, tracks = track_posterior(detector, events.images, step=1 / 64), events.tracks[:, 0].double()
    rank = exact.cdf(tracks)
    assert float(rank.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * 2 * n))
    assert float(rank.var()) == pytest.approx(1 / 12, abs=5 * math.sqrt(1 / 180 / (2 * n)) * math.sqrt(2))
    assert bool(exact.log_prob(tracks).isfinite().all())
    away = tracks - exact.mean
    squared = torch.einsum("ni,nij,nj->n", away, torch.linalg.inv(exact.covariance), away)
    assert float(squared.mean()) == pytest.approx(2, abs=5 * float(squared.std()) / math.sqrt(n))


def test_the_squares_are_small_enough():
    """The mean log density at the truth changes by less than 0.01 nats from a step of 1/32 to 1/64."""
    detector = Detector(noise=0.1)
    events = detector.simulate(300, tracks=1, seed=0)
    tracks = events.tracks[:, 0]
    coarse, fine = (track_posterior(detector, events.images, step=s).log_prob(tracks).mean() for s in (1 / 32, 1 / 64))
    assert abs(float(coarse - fine)) < 0.01


def test_without_noise_the_posterior_is_the_polygon_of_tracks_through_the_same_pixels():
    """By rejection: of 2 million tracks near the true one, those that cross what it crosses."""
    detector = Detector(size=8, layers=8, efficiency=1.0, noise=0.0)
    events = detector.simulate(20, tracks=1, seed=0)
    exact = track_posterior(detector, events.images, step=1 / 64)
    random = torch.Generator().manual_seed(1)
    for event in range(20):
        true = events.tracks[event, 0]
        tried = true + 2 * torch.rand(200_000, 2, generator=random) - 1
        tried = tried[((tried >= 0) & (tried < 8)).all(-1)]
        kept = tried[(detector.crossed(tried) == detector.crossed(true)).all(-1)].double()
        error = 5 * kept.std(0) / math.sqrt(len(kept))
        assert bool(((exact.mean[event] - kept.mean(0)).abs() < error + 1e-3).all())
        spread = exact.covariance[event].diagonal().sqrt()
        torch.testing.assert_close(spread, kept.std(0), rtol=5 / math.sqrt(2 * len(kept)) + 0.01, atol=1e-3)


def test_pixels_are_known_better_than_least_squares_knows():
    """With many layers: uniform errors carry more than their variance does."""
    detector = Detector(size=30, layers=30, efficiency=1.0, noise=0.0)
    events = detector.simulate(200, tracks=1, seed=0)
    exact = track_posterior(detector, events.images, step=1 / 64)
    away = (exact.mean - events.tracks[:, 0]).square().mean().sqrt()
    assert float(away) < float(intercept_covariance(30, 12**-0.5)[0, 0].sqrt())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0.3}, "expected step to be 1, 1/2, .*, got 0.3"),
        ({"step": 0.0}, "expected step to be 1, 1/2, .*, got 0"),
        ({"step": 2.0}, "expected step to be 1, 1/2, .*, got 2"),
        ({"loss": 0.0}, r"expected loss to be a number in \(0, 1\), got 0"),
        ({"batch": 0}, "expected batch to be a whole number of 1 or more, got 0"),
    ],
)
def test_posteriors_that_cannot_be_are_refused(settings, message):
    images = Detector(size=4, layers=4).simulate(3, tracks=1, seed=0).images
    with pytest.raises(ValueError, match=message):
        track_posterior(Detector(size=4, layers=4), images, **settings)


def test_images_of_another_detector_are_refused():
    images = Detector(size=4, layers=4).simulate(3, tracks=1, seed=0).images
    with pytest.raises(
        ValueError, match=r"expected images of shape \(N, 1, 5, 4\), N of 1 or more, got \(3, 1, 4, 4\)"
    ):
        track_posterior(Detector(size=5, layers=4), images)
    exact = track_posterior(Detector(size=4, layers=4), images)
    with pytest.raises(ValueError, match=r"expected tracks of shape \(3, 2\), got \(3, 1, 2\)"):
        exact.log_prob(torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match=r"expected values of shape \(3, 2\), got \(2,\)"):
        exact.cdf(torch.zeros(2))
    with pytest.raises(ValueError, match=r"N of 1 or more, got \(0, 1, 4, 4\)"):
        track_posterior(Detector(size=4, layers=4), images[:0])
    empty = torch.zeros(2, 1, 4, 4)
    empty[1, 0, 0] = 1
    with pytest.raises(ValueError, match=r"got 1 of 2 with likelihood 0 at all centres of squares of side 0.0625"):
        track_posterior(Detector(size=4, layers=4, efficiency=1.0), empty)
