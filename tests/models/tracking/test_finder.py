"""What finders say: intensities that integrate, sets in any order, and maps that count. Seed 0, 5 standard errors."""

import itertools
import math

import pyro
import pytest
import torch

from posterity.data.track_posterior import track_posterior
from posterity.data.tracks import Detector
from posterity.inference.training.streaming import fit_stream
from posterity.models.mixtures import Mixture
from posterity.models.tracking import (
    HoughMap,
    IndependentFinder,
    RoadMap,
    TrackFinder,
    TrackIntensity,
    TrackSet,
    single_track_pair,
    track_set_pair,
)
from posterity.models.tracking.roads import hits_on, hough_matrix


def intensity(events=2, candidates=2, components=3, seed=0):
    """Candidates and cells well inside 20 x 20 pixels."""
    random = torch.Generator().manual_seed(seed)
    shape = events, candidates, components
    loc = 6 + 8 * torch.rand(*shape, 2, dtype=torch.double, generator=random)
    tril = torch.diag_embed(0.5 + torch.rand(*shape, 2, dtype=torch.double, generator=random))
    tril[..., 1, 0] = torch.randn(shape, dtype=torch.double, generator=random) * 0.4
    logits = torch.randn(shape, dtype=torch.double, generator=random)
    cells = torch.tensor([[8.0, 8.0], [12.0, 9.0]], dtype=torch.double)
    rest = torch.randn(events, 2, dtype=torch.double, generator=random) - 1
    rest[0, 1] = -torch.inf
    return TrackIntensity(
        log_odds=torch.randn(events, candidates, dtype=torch.double, generator=random),
        candidates=Mixture.multivariate_normal(logits, loc, tril),
        log_rest=rest,
        cells=cells,
        width=0.5,
    )


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
    """Candidates that exist or not, drawn by themselves: of events with one of them, how often it is which.

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
    where = found.any_one()
    mean, sd = where.mean, where.variance.sqrt()
    for event in range(2):
        there = sample[:, event][present[:, event]]
        assert bool(((there.mean(0) - mean[event]).abs() < 5 * sd[event] / math.sqrt(len(there))).all())


def test_candidates_of_one_place_are_one_track():
    """By hand: 0.6 and 0.3 within half a pixel of each other, 0.4 elsewhere, 0.8 again elsewhere."""
    at = torch.tensor([[[5.0, 5.0], [5.5, 5.0], [2.0, 9.0], [9.0, 1.0]]])
    rates = torch.tensor([[0.6, 0.3, 0.4, 0.8]])
    normal = Mixture.multivariate_normal(torch.zeros(1, 4, 1), at[:, :, None], 0.1 * torch.eye(2).expand(1, 4, 1, 2, 2))
    said = TrackIntensity(rates.logit(), normal, torch.full((1, 1), -9.0), torch.zeros(1, 2), 0.5)
    found = said.found()
    torch.testing.assert_close(found.tracks[0, :2], torch.tensor([[9.0, 1.0], [5.0, 5.0]]))
    assert bool(found.tracks[0, 2:].isnan().all())
    torch.testing.assert_close(found.existence[0, :2], torch.tensor([0.8, 0.9]))
    torch.testing.assert_close(found.covariance[0, :2], 0.01 * torch.eye(2).expand(2, 2, 2))
    assert int((~said.found(least=0.35, same=0.1).existence.isnan()).sum()) == 3
    torch.testing.assert_close(said.log_rates.exp(), rates)


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
    _, found = finder._closely(images, images.mean((1, 2, 3)), centres[:, None], torch.zeros(200, 1))
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
    """A track at the very corner: of 20 points none is beyond it."""
    detector = Detector(size=16, layers=16, efficiency=1.0, noise=0.05)
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 0] = 1
    finder = TrackFinder(16, 16, components=100)
    _, found = finder._closely(image, image.mean((1, 2, 3)), torch.full((1, 1, 2), 0.5), torch.zeros(1, 1))
    weights, loc = found.log_weights[0, 0].exp(), found.component_distribution.loc[0, 0]
    assert float(weights[((loc < 0) | (loc > detector.size)).any(-1)].sum()) < 1e-3
    assert float(weights[:100].sum()) > 0.95


def test_the_finder_looks_closely_at_as_many_cells_as_it_is_told():
    finder = TrackFinder(12, 12, candidates=3, components=20, hidden=16)
    found = finder(Detector(size=12, layers=12).simulate(5, tracks=2, seed=0).images)
    assert found.candidates.batch_shape == (5, 3)
    assert found.candidates.log_weights.shape == (5, 3, 23)  # three wide normals beside 20 points
    assert found.candidates.event_shape == (2,)
    assert found.log_rest.shape == (5, 144)
    assert bool((found.log_rates <= 0).all() and (found.log_rest <= 0).all())


@torch.no_grad()
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_an_untrained_finder_finds_tracks_where_the_exact_posterior_is(noise):
    """Of 200 events: a track of its own alone is found in all but 3, within a pixel of the posterior's mean."""
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


@torch.no_grad()
def test_independent_mixtures_say_nothing_of_pairs():
    """The log density of two tracks is the same when they swap their ends, and rows of NaN count for nothing."""
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
    """In 300 steps of 128 events without noise: from no idea (2 log 12 = 5.0 nats) to within a pixel or so."""
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
        (lambda: intensity().found(least=1.0), r"expected a least in \[0, 1\) and a distance of 0 or more, got 1.0"),
        (lambda: RoadMap(8, 8, points=0), "expected points to be a whole number of 1 or more, got 0"),
        (lambda: HoughMap(8, 8, per_pixel=0), "expected per_pixel to be a whole number of 1 or more, got 0"),
        (lambda: TrackSet(intensity()).log_prob(torch.zeros(3, 1, 2)), r"expected tracks of shape \(..., 2, T, 2\)"),
        (lambda: intensity().log_intensity(torch.zeros(1, 1, 2)), r"expected tracks of shape \(2, T, 2\), got \(1, 1"),
        (lambda: intensity().single_log_prob(torch.zeros(2, 2)), r"expected tracks of shape \(2, T, 2\), got \(2, 2"),
        (lambda: TrackFinder(8, 8)(torch.full((1, 1, 8, 8), 255)), "expected pixels that are 0 or 1, got others"),
        (lambda: TrackFinder(8, 8)(torch.full((1, 1, 8, 8), torch.nan)), "expected pixels that are 0 or 1, got others"),
        (lambda: TrackFinder(8, 8)(torch.zeros(0, 1, 8, 8)), r"N of 1 or more, got \(0, 1, 8, 8\)"),
        (lambda: TrackFinder(8, 8)([0.0]), "expected images as a tensor, such as events.images, got list"),
        (lambda: TrackSet(torch.zeros(3)), "expected the TrackIntensity that a finder returns, got Tensor"),
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
            "expected rows of two finite numbers, or of two NaN",
        ),
        (lambda: TrackSet(intensity(), most=0).sample((200,)), "expected at most 0 tracks, drew"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
