"""`TrackFinder` against the exact posterior, and its Pyro models. Seed 0."""

import pyro
import pytest
import torch

from posterity.data.track_posterior import track_posterior
from posterity.data.tracks import Detector
from posterity.models.tracking import (
    HoughMap,
    IndependentFinder,
    RoadMap,
    TrackFinder,
    TrackSet,
    single_track_pair,
    track_set_pair,
)
from tests.models.tracking.cases import intensity


def test_a_set_can_be_observed_in_a_pyro_model():
    finder = TrackFinder(16, 16, candidates=3, components=20, hidden=16)
    events = Detector(size=16, layers=16).simulate(4, mean_tracks=2.0, seed=0)
    pair = track_set_pair(finder)
    trace = pyro.poutine.trace(pair.model).get_trace(events.images, events.tracks)
    expected = TrackSet(finder(events.images)).log_prob(events.tracks).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    elbo = pyro.infer.Trace_ELBO().loss(pair.model, lambda images, tracks: None, events.images, events.tracks)
    assert elbo == pytest.approx(-float(expected.detach()), rel=1e-5)
    one = Detector(size=16, layers=16).simulate(4, tracks=1, seed=0)
    trace = pyro.poutine.trace(single_track_pair(finder).model).get_trace(one.images, one.tracks[:, 0])
    expected = finder(one.images).single_log_prob(one.tracks).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_an_untrained_finder_already_knows_the_shape_around_a_track():
    """Given the cell, its density is nearly the exact posterior: in nats at the truth, in mean and in variance.

    What a hit is worth is not yet that of this noise: 4.5 nats, not 4.6. Means over those 190 of 200 events that are
    nearest, since some of the others have more than one place where their track may be. One normal with the right mean
    and covariance is a third of a nat off at the least, as on an ellipse.
    """
    torch.manual_seed(0)
    detector = Detector(noise=0.2)
    events = detector.simulate(200, tracks=1, seed=0)
    exact = track_posterior(detector, events.images, step=1 / 64)
    finder = TrackFinder(components=800, finer=3, hidden=8)
    images = events.images.float()
    centres = exact.mean.float()
    _, found = finder._refine(images, images.mean((1, 2, 3)), centres[:, None], torch.zeros(200, 1))
    away = (found.mean[:, 0] - exact.mean).abs() / exact.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert float(away.median()) < 0.05
    ratio = found.covariance_matrix[:, 0].diagonal(dim1=1, dim2=2) / exact.covariance.diagonal(dim1=1, dim2=2)
    assert 0.9 < float(ratio.median()) < 1.1
    excess = exact.log_prob(events.tracks[:, 0]) - found.log_prob(events.tracks)[:, 0]
    normal = torch.distributions.MultivariateNormal(exact.mean, exact.covariance)
    from_normal = exact.log_prob(events.tracks[:, 0]) - normal.log_prob(events.tracks[:, 0])
    assert float(excess.sort().values[:190].mean()) < 0.1
    assert float(from_normal.sort().values[:190].mean()) > 0.25


@torch.no_grad()
def test_no_density_is_outside_the_detector_beyond_the_blur_of_its_points():
    """For a track in the corner no point of the grid has weight outside the detector."""
    detector = Detector(size=16, layers=16, efficiency=1.0, noise=0.05)
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 0] = 1
    finder = TrackFinder(16, 16, components=100)
    _, found = finder._refine(image, image.mean((1, 2, 3)), torch.full((1, 1, 2), 0.5), torch.zeros(1, 1))
    weights, loc = found.log_weights[0, 0].exp(), found.component_distribution.loc[0, 0]
    assert float(weights[((loc < 0) | (loc > detector.size)).any(-1)].sum()) < 1e-3
    assert float(weights[:100].sum()) > 0.95


def test_the_finder_looks_closely_at_as_many_cells_as_it_is_told():
    finder = TrackFinder(12, 12, candidates=3, components=20, hidden=16)
    found = finder(Detector(size=12, layers=12).simulate(5, tracks=2, seed=0).images)
    assert found.candidates.batch_shape == (5, 3)
    assert found.candidates.log_weights.shape == (5, 3, 23)  # three wide normals beside 20 points
    assert found.candidates.event_shape == (2,)
    assert found.log_cell_rates.shape == (5, 144)
    assert bool((found.log_rates <= 0).all() and (found.log_cell_rates <= 0).all())


@torch.no_grad()
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_an_untrained_finder_finds_tracks_where_the_exact_posterior_is(noise):
    """In all but 3 of 200 events the best candidate is within a pixel of the posterior mean."""
    torch.manual_seed(0)
    detector = Detector(noise=noise)
    events = detector.simulate(200, tracks=1, seed=1)
    exact = track_posterior(detector, events.images, step=1 / 16)
    found = TrackFinder(candidates=2, components=100, hidden=8)(events.images)
    best = found.log_odds.argmax(1)
    mean = found.candidates.mean[torch.arange(200), best]
    near = ((mean - exact.mean).abs() < 1).all(1)
    sure = exact.covariance.diagonal(dim1=1, dim2=2).amax(1) < 0.25
    assert int((sure & ~near).sum()) <= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrackFinder(16, 16, candidates=0), "expected candidates to be a whole number of 1 or more, got 0"),
        (lambda: TrackFinder(2, 4, candidates=5), "expected at most 4 candidates, one for each cell, got 5"),
        (lambda: TrackFinder(16, 16, components=0), "expected components to be a whole number of 1 or more, got 0"),
        (
            lambda: TrackFinder(components=1025),
            "expected at most 1024 components, the points of the finest grid, got 1025",
        ),
        (
            lambda: TrackFinder(16, 16)(torch.zeros(5, 16, 16)),
            r"expected images of shape \(N, 1, 16, 16\), N of 1 or more, got \(5, 16, 16\)",
        ),
        (lambda: IndependentFinder(4, 8), "expected size to be a whole number of 8 or more, got 4"),
        (
            lambda: IndependentFinder(16, 16)(torch.zeros(5, 16, 16)),
            r"expected images of shape \(N, 1, 16, 16\), N of 1 or more, got \(5, 16, 16\)",
        ),
        (
            lambda: intensity().detect(min_existence=1.0),
            r"expected min_existence to be a number in \[0, 1\), got 1.0",
        ),
        (lambda: RoadMap(8, 8, points=0), "expected points to be a whole number of 1 or more, got 0"),
        (lambda: HoughMap(8, 8, per_pixel=0), "expected per_pixel to be a whole number of 1 or more, got 0"),
        (lambda: TrackSet(intensity()).log_prob(torch.zeros(3, 1, 2)), r"expected tracks of shape \(..., 2, T, 2\)"),
        (lambda: intensity().log_intensity(torch.zeros(1, 1, 2)), r"expected tracks of shape \(2, T, 2\), got \(1, 1"),
        (lambda: intensity().single_log_prob(torch.zeros(2, 2)), r"expected tracks of shape \(2, T, 2\), got \(2, 2"),
        (lambda: TrackFinder(8, 8)(torch.full((1, 1, 8, 8), 255)), "expected pixels to be 0 or 1, got other values"),
        (
            lambda: TrackFinder(8, 8)(torch.full((1, 1, 8, 8), torch.nan)),
            "expected pixels to be 0 or 1, got other values",
        ),
        (lambda: TrackFinder(8, 8)(torch.zeros(0, 1, 8, 8)), r"N of 1 or more, got \(0, 1, 8, 8\)"),
        (lambda: TrackFinder(8, 8)([0.0]), r"expected images to be a tensor, got \[0.0\]"),
        (lambda: TrackSet(torch.zeros(3)), "expected intensity to be a TrackIntensity, got Tensor"),
        (lambda: HoughMap(8, 8)(torch.zeros(1, 8, 8)), r"expected images of shape \(N, 1, 8, 8\), .*, got \(1, 8, 8\)"),
        (lambda: RoadMap(8, 8, step=0.0), "expected step to be a finite number above 0, got 0.0"),
        (
            lambda: RoadMap(8, 8)(torch.zeros(2, 1, 8, 8), torch.zeros(2, 2)),
            r"expected tracks of shape \(2, T, 2\), got \(2, 2\)",
        ),
        (
            lambda: IndependentFinder(8, 8).log_prob(torch.zeros(2, 1, 8, 8), torch.zeros(1, 3, 2)),
            r"expected tracks of shape \(2, T, 2\), got \(1, 3, 2\)",
        ),
        (
            lambda: TrackSet(intensity(), validate_args=True).log_prob(torch.tensor([[[1.0, torch.nan]]] * 2)),
            "expected rows of tracks with two finite numbers, or two NaN",
        ),
        (lambda: TrackSet(intensity(), max_tracks=0).sample((200,)), "expected at most 0 tracks, drew"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
