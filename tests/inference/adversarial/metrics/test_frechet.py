"""The Fréchet distance of samples whose means and covariances are exactly known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from posterity.inference.adversarial.metrics import frechet_distance


def white(seed, n, d):
    """(n, d) of mean 0 and covariance 1, not on average but exactly."""
    raw = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return torch.linalg.qr(raw - raw.mean(0)).Q * math.sqrt(n - 1)


def test_covariances_that_commute():
    x, y = white(0, 50, 4), white(1, 70, 4)
    a, b = torch.tensor([1.0, 2.0, 3.0, 0.5]).double(), torch.tensor([2.0, 2.0, 0.1, 4.0]).double()
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5]).double()
    truth = float((shift**2).sum() + ((a - b) ** 2).sum())
    assert frechet_distance(x * a, y * b + shift) == pytest.approx(truth, rel=1e-12)
    turn = torch.linalg.qr(torch.randn(4, 4).double()).Q
    assert frechet_distance(x * a @ turn, (y * b + shift) @ turn) == pytest.approx(truth, rel=1e-12)


def test_covariances_that_do_not_commute():
    a, b = torch.randn(2, 6, 6, dtype=torch.double)
    c, s = a.T @ a, b.T @ b
    root = sqrtm((c @ s).numpy()).real.trace()
    truth = 4 * 6 + float(c.trace() + s.trace()) - 2 * root
    assert frechet_distance(white(0, 40, 6) @ a, white(1, 30, 6) @ b + 2) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("n", [3, 500])
def test_covariances_without_full_rank(n):
    """Along one direction each, u and v: |u|² + |v|² - 2 |u·v|, with as few rows as 3 in 20 dimensions."""
    u, v = torch.randn(2, 20, dtype=torch.double)
    truth = float(u @ u + v @ v - 2 * (u @ v).abs())
    line = white(0, n, 1)
    assert frechet_distance(line * u, line * v) == pytest.approx(truth, rel=1e-12)
    # A collapsed generator has no covariance at all.
    assert frechet_distance(line * u, torch.ones(5, 20)) == pytest.approx(20 + float(u @ u), rel=1e-12)


def test_equal_samples_are_at_no_distance_even_far_from_the_origin():
    x = torch.randn(300, 10)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x + 1e4, x.flip(0) + 1e4) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x[:5], x[:5]) == pytest.approx(0, abs=1e-12)


def test_two_normals():
    """20,000 draws of N(0, 1) and N(1, 4) in 3 dimensions: 3 (1² + (2 - 1)²), to 5 per cent."""
    x, y = torch.randn(2, 20_000, 3)
    assert frechet_distance(x, 2 * y + 1) == pytest.approx(6, rel=0.05)


def test_more_samples_make_less_bias():
    """Means of 40 pairs of samples of one normal: halved when the numbers double, to 15 per cent."""
    small, large = (sum(frechet_distance(*torch.randn(2, n, 8)) for _ in range(40)) / 40 for n in (500, 1000))
    assert large == pytest.approx(small / 2, rel=0.15)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 8), d=st.integers(1, 5), scale=st.floats(0.01, 100))
def test_symmetric_and_square_in_the_unit(seed, n, d, scale):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, d, generator=generator, dtype=torch.double)
    value = frechet_distance(x, y)
    assert value >= 0
    assert frechet_distance(y.flip(0), x) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet_distance(scale * x + 1, scale * y + 1) == pytest.approx(scale**2 * value, rel=1e-7, abs=1e-9)


def test_bad_samples_of_the_frechet_distance_are_refused():
    with pytest.raises(ValueError, match=r"expected x of shape \(N, D\), N of 2 or more, got \(1, 3\)"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected the same number of features D"):
        frechet_distance(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected finite y"):
        frechet_distance(torch.zeros(4, 2), torch.full((4, 2), math.inf))
