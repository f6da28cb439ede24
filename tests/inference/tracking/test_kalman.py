"""Fits of straight lines, against weighted least squares and the known limit. Seed 0, 5 standard errors."""

import math

import pytest
import torch

from posterity.data.tracks import Detector, intercept_covariance, normal_hits
from posterity.inference.tracking import annealed_fit, kalman_fit


def least_squares(y, variance):
    """Intercepts and covariance of each row, by the normal equations."""
    u = torch.linspace(0, 1, y.shape[1], dtype=torch.double)
    design = torch.stack([1 - u, u], 1)
    information = torch.einsum("li,bl,lj->bij", design, 1 / variance, design)
    covariance = torch.linalg.inv(information)
    return torch.einsum("bij,lj,bl->bi", covariance, design, y / variance), covariance


def test_the_filter_ends_where_weighted_least_squares_does():
    """With a different variance for each hit, and missing hits."""
    random = torch.Generator().manual_seed(0)
    y = 20 * torch.rand(30, 9, dtype=torch.double, generator=random)
    variance = 0.1 + torch.rand(30, 9, dtype=torch.double, generator=random)
    missing = torch.rand(30, 9, generator=random) < 0.4
    missing[:, [1, 6]] = False
    variance[missing] = torch.inf
    fitted = kalman_fit(torch.where(missing, torch.nan, y), variance)
    tracks, covariance = least_squares(y, variance)
    torch.testing.assert_close(fitted.tracks, tracks, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fitted.covariance, covariance, rtol=1e-5, atol=1e-8)
    u = torch.linspace(0, 1, 9, dtype=torch.double)
    residual = y - torch.lerp(tracks[:, :1], tracks[:, 1:], u)
    torch.testing.assert_close(fitted.chi2, (residual**2 / variance).sum(1), rtol=1e-4, atol=1e-6)
    assert torch.equal(fitted.hits, (~missing).sum(1).double())


def test_normal_hits_are_fitted_at_the_limit():
    """Residual widths within 5 standard errors of Cramér-Rao's; chi2 of 8 degrees of freedom."""
    n = 20_000
    true = 28 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    hits = normal_hits(true, 10, 0.3, seed=1)
    fitted = kalman_fit(hits, torch.full_like(hits, 0.09))
    bound = intercept_covariance(10, 0.3)
    torch.testing.assert_close(fitted.covariance, bound.expand(n, 2, 2), rtol=1e-5, atol=0)
    away = fitted.tracks - true
    torch.testing.assert_close(away.T @ away / n, bound, rtol=5 * math.sqrt(2 / n), atol=5 * 0.031 / math.sqrt(n))
    assert float(fitted.chi2.mean()) == pytest.approx(8, abs=5 * 4 / math.sqrt(n))


def test_distant_noise_moves_the_plain_fit_but_not_the_robust_one():
    """One layer of ten has only noise, 8 pixels off: it pulls least squares away, but not the annealed fit."""
    fired = torch.zeros(1, 20, 10, dtype=torch.bool)
    true = torch.tensor([[3.2, 9.7]])
    detector = Detector(size=20, layers=10, efficiency=1.0, noise=0.0)
    fired[0, detector.crossed(true)[0], torch.arange(10)] = True
    alone = annealed_fit(fired, true + 0.8)
    fired[0, :, 0] = False
    fired[0, 11, 0] = True
    robust = annealed_fit(fired, true + 0.8)
    assert float((robust.tracks - alone.tracks).abs().max()) < 0.25
    # A hit at the centre of its pixel has the weight 1 / (1 + exp(-4.5)), one at its edge 1 / (1 + exp(1.5 - 4.5)).
    assert 9 * 0.952 < float(robust.hits) < 9 * 0.9891
    centres = fired[0].double().argmax(0)[None] + 0.5
    plain = kalman_fit(centres, torch.full_like(centres, 1 / 12))
    assert float((plain.tracks - alone.tracks).abs().max()) > 2


def test_the_robust_fit_finds_tracks_among_noise_from_a_rough_start():
    """From starts with an error of half a pixel, 95 % end within 0.53 pixels of the truth (5 sd of least squares)."""
    detector = Detector(noise=0.2)
    events = detector.simulate(300, tracks=1, seed=0)
    true = events.tracks[:, 0]
    start = true + torch.randn(true.shape, generator=torch.Generator().manual_seed(1)) * 0.5
    fitted = annealed_fit(events.images[:, 0] == 1, start)
    near = ((fitted.tracks - true).abs() < 0.53).all(1).double().mean()
    assert float(near) > 0.95
    cold = annealed_fit(events.images[:, 0] == 1, start, temperatures=(1.0,))
    assert float((fitted.tracks - true).square().mean()) < float((cold.tracks - true).square().mean())


@pytest.mark.parametrize("temperature", [1.0, 4.0, 81.0])
def test_hits_compete_with_the_weights_of_the_temperature(temperature):
    """Two hits in each of ten layers, one pixel above the start and two below, with a resolution of one pixel.

    phi = exp(-d²/2T); a hit has the weight phi over the sum of both and of phi at the cutoff; the fit ends at the
    weighted mean, with the covariance of hits of variance 1 over the sum of both weights.
    """
    fired = torch.zeros(1, 12, 10, dtype=torch.bool)
    fired[:, 7] = fired[:, 4] = True
    start = torch.full((1, 2), 6.5)
    fitted = annealed_fit(fired, start, resolution=1.0, cutoff=2.5, temperatures=(temperature,))
    above, below, cutoff = (math.exp(-(d**2) / (2 * temperature)) for d in (1.0, 2.0, 2.5))
    total = (above + below) / (above + below + cutoff)
    mean = 6.5 + (above - 2 * below) / (above + below)
    torch.testing.assert_close(fitted.tracks, torch.full((1, 2), mean, dtype=torch.double), rtol=1e-6, atol=1e-6)
    assert float(fitted.hits) == pytest.approx(10 * total)
    torch.testing.assert_close(fitted.covariance[0], intercept_covariance(10, total**-0.5), rtol=1e-6, atol=1e-8)
    assert float(fitted.chi2) == pytest.approx(0, abs=1e-8)


def test_annealing_leaves_a_few_near_noise_hits_for_the_track():
    """The start is at three noise hits, four pixels from the ten hits of the track; only high temperatures leave it.

    Four pixels are 14 standard deviations, and at a temperature of one such hits have a weight of exp(-91).
    """
    fired = torch.zeros(1, 20, 10, dtype=torch.bool)
    fired[0, 10] = True
    fired[0, 6, [0, 4, 9]] = True
    start = torch.full((1, 2), 6.5)
    fitted = annealed_fit(fired, start)
    assert float((fitted.tracks - 10.5).abs().max()) < 0.05
    assert float(fitted.hits) == pytest.approx(10 / (1 + math.exp(-4.5)), rel=0.01)
    cold = annealed_fit(fired, start, temperatures=(1.0,) * 5)
    assert float((cold.tracks - 6.5).abs().max()) < 0.05
    assert float(cold.hits) == pytest.approx(3 / (1 + math.exp(-4.5)), rel=0.01)


def test_tracks_without_hits_keep_the_start():
    fitted = annealed_fit(torch.zeros(2, 8, 8, dtype=torch.bool), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert fitted.tracks.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert fitted.hits.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kalman_fit(torch.zeros(3, 4), torch.ones(3, 5)), r"one shape \(B, L\).* got \(3, 4\) and \(3, 5\)"),
        (lambda: kalman_fit(torch.zeros(3, 1), torch.ones(3, 1)), "L of 2 or more"),
        (lambda: kalman_fit(torch.zeros(3, 4), torch.zeros(3, 4)), "expected variances above 0, got zero"),
        (
            lambda: kalman_fit(torch.tensor([[1.0, math.nan]]), torch.ones(1, 2)),
            "expected finite positions wherever the variance is finite",
        ),
        (
            lambda: annealed_fit(torch.zeros(3, 4, 4), torch.zeros(3, 2)),
            "expected fired to be a boolean tensor, got torch.float32",
        ),
        (lambda: annealed_fit(torch.zeros(1, 4, 4) > 0, torch.tensor([[math.nan, 1.0]])), "expected finite start"),
        (lambda: annealed_fit(torch.zeros(3, 4), torch.zeros(3, 2)), r"expected fired of shape \(B, size, layers\)"),
        (lambda: annealed_fit(torch.zeros(3, 4, 4) > 0, torch.zeros(2, 2)), r"got \(3, 4, 4\) and \(2, 2\)"),
        (
            lambda: annealed_fit(torch.zeros(3, 4, 4) > 0, torch.zeros(3, 2), cutoff=0.0),
            "expected cutoff to be a finite number above 0, got 0.0",
        ),
        (
            lambda: annealed_fit(torch.zeros(3, 4, 4) > 0, torch.zeros(3, 2), temperatures=(4.0, 0.5)),
            "expected every one of temperatures to be a finite number of 1 or more, got 0.5",
        ),
        (
            lambda: annealed_fit(torch.zeros(3, 4, 4) > 0, torch.zeros(3, 2), temperatures=()),
            "a sequence of at least one number",
        ),
    ],
)
def test_bad_arguments_of_fits_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
