"""The birthday paradox on supports of known size: its estimate, its interval, and its limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from posterity.inference.adversarial.metrics import _pairs, support_size
from posterity.inference.adversarial.metrics.support import _collisions, _interval, _smallest


def real(n, d=6):
    return torch.randn(n, d, dtype=torch.double)


@pytest.mark.parametrize("expected_pairs", [1, 10])
def test_five_hundred_points_are_counted(expected_pairs):
    """100 samples of 400 from 500 points, seed 0: the 95 % interval holds the truth in 90 or more.

    The truth is 500, less the points that are within the radius of each other: 1 in 160 or 16.
    """
    points, calibration, held_out = real(500), real(400), real(400)
    samples = [points[torch.randint(500, (400,))] for _ in range(100)]
    estimates = [support_size(s, held_out, calibration, expected_pairs=expected_pairs) for s in samples]
    near = int((torch.nn.functional.pdist(points) <= estimates[0].radius).sum())
    truth = 500**2 / (500 + 2 * near)
    assert truth == pytest.approx(500, rel=0.02 * expected_pairs)
    assert sum(f.low <= truth <= f.high for f in estimates) >= 90
    assert expected_pairs > 1 or sum(f.low <= 500 <= f.high for f in estimates) >= 90
    assert all(f.low < f.size < f.high for f in estimates)
    assert all(f.size == math.comb(400, 2) / f.pairs for f in estimates)
    rates = torch.tensor([1 / f.size for f in estimates])
    assert abs(float(rates.mean()) - 1 / truth) < 4 * float(rates.std()) / 10


def test_memorised_samples_with_noise_are_told_from_real_ones():
    calibration, held_out = real(1000), real(1000)
    points = real(500)[torch.randint(500, (1000,))]
    support = support_size(points + 0.01 * torch.randn_like(points), held_out, calibration)
    assert support.low < 500 < support.high
    assert support.pair_ratio > 30
    assert support.real_size > 10 * support.high


def test_uneven_values_count_as_fewer_even_ones_with_a_wider_interval():
    """One of 2,001 values has a share of 10 %: 1 / sum p² is 95. Pairs are correlated: Poisson intervals are too short."""
    share = torch.full((2001,), 0.9 / 2000, dtype=torch.double)
    share[0] = 0.1
    truth = 1 / float((share**2).sum())
    points = 1000 * torch.arange(2001, dtype=torch.double)[:, None]
    held = poisson = 0
    for _ in range(100):
        sample = points[torch.multinomial(share, 400, replacement=True)]
        pairs, shared = _collisions(sample, 0.0)
        sizes = [[math.comb(400, 2) / b for b in _interval(pairs, s, 400, 0.95)] for s in (shared, 0)]
        held += sizes[0][1] < truth < sizes[0][0]
        poisson += sizes[1][1] < truth < sizes[1][0]
    assert held >= 88
    assert poisson < 70


def test_a_perfect_generator_has_the_pairs_of_real_samples():
    """Means over 60 sets are the 10 expected pairs of both kinds, and 5 of half as many samples.

    Within 4 standard errors and a bias of 4 %, which 1,500 sets have because pairs are correlated.
    """
    sets = [support_size(real(300), real(300), real(300)) for _ in range(60)]
    for name in ("pairs", "real_pairs"):
        values = torch.tensor([getattr(s, name) for s in sets]).double()
        assert abs(float(values.mean()) - 10) < 4 * float(values.std()) / math.sqrt(60) + 0.4, name
    fewer = [support_size(real(150), real(300), real(600), expected_pairs=5) for _ in range(60)]
    values = torch.tensor([s.pairs for s in fewer]).double()
    assert abs(float(values.mean()) - 5) < 4 * float(values.std()) / math.sqrt(60) + 0.2
    assert sorted(s.pair_ratio for s in fewer)[30] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("expected_pairs", [1, 3, 7])
def test_the_radius_holds_the_expected_pairs_of_the_calibration(expected_pairs):
    """Exactly as many pairs of the calibration samples are within the radius, whatever the number of samples."""
    for n in range(5, 60):
        x = real(n)
        support = support_size(x, x, x, expected_pairs=expected_pairs)
        assert (support.pairs, support.real_pairs, support.pair_ratio) == (expected_pairs, expected_pairs, 1)
        nearest = torch.nn.functional.pdist(x).sort().values[expected_pairs - 1]
        assert support.radius == pytest.approx(float(nearest), rel=1e-9)


def test_no_pair_is_an_infinite_size_with_a_lower_bound():
    apart = 1000 * torch.arange(100.0)[:, None]
    calibration = torch.randn(100, 1)
    support = support_size(apart, calibration, calibration)
    assert (support.pairs, support.size, support.high) == (0, math.inf, math.inf)
    assert support.low == pytest.approx(math.comb(100, 2) / -math.log(0.025))  # no event of a Poisson count
    assert support.pair_ratio == 0
    assert math.isnan(support_size(apart, apart, calibration).pair_ratio)
    assert support_size(calibration, apart, calibration).pair_ratio == math.inf
    assert support_size(calibration, apart, calibration).real_size == math.inf


def test_a_generator_of_one_value_has_a_support_of_one():
    support = support_size(torch.ones(50, 2), real(50, 2), real(50, 2))
    assert (support.pairs, support.size, support.low) == (math.comb(50, 2), 1, 1)


def test_the_interval_is_that_of_a_poisson_count():
    """Garwood 1936: either tail has half of the remaining probability."""
    low, high = _interval(7, 0, 1000, 0.9)
    assert stats.poisson.sf(6, low) == pytest.approx(0.05)
    assert stats.poisson.cdf(7, high) == pytest.approx(0.05)


@pytest.mark.parametrize("chunk", [1, 17, 200, 2**20])
def test_pairs_in_chunks_agree_with_loops(chunk, monkeypatch):
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    x = torch.randint(5, (31, 2)).double()  # with ties and equal rows
    squares = sorted(float(((a - b) ** 2).sum()) for i, a in enumerate(x) for b in x[:i])
    assert [_smallest(x, rank) for rank in (1, 20, 100, len(squares))] == pytest.approx(
        [squares[rank - 1] for rank in (1, 20, 100, len(squares))]
    )
    for square in (0.0, 1.0, 2.0):
        degree = [sum(float(((a - b) ** 2).sum()) <= square for b in x) - 1 for a in x]
        assert _collisions(x, square) == (sum(degree) // 2, sum(d * (d - 1) for d in degree))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_support_size_depends_on_neither_order_nor_units(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    samples, held_out, calibration = torch.randn(3, 30, 2, generator=generator, dtype=torch.double)
    support = support_size(samples, held_out, calibration)
    other = support_size(scale * samples.flip(0) + 1, scale * held_out + 1, scale * calibration.flip(0) + 1)
    assert other.radius == pytest.approx(scale * support.radius)
    assert (other.pairs, other.real_pairs, other.low) == (support.pairs, support.real_pairs, support.low)


def test_bad_arguments_of_support_size_are_refused():
    x = real(40, 2)
    with pytest.raises(ValueError, match="expected about 14 calibration samples or more, got 10"):
        support_size(x, x, x[:10])
    with pytest.raises(ValueError, match=r"expected expected_pairs to be a number in \(0, 780\)"):
        support_size(x, x, x, expected_pairs=800)
    with pytest.raises(ValueError, match=r"expected level to be a number in \(0, 1\)"):
        support_size(x, x, x, level=95)
    with pytest.raises(ValueError, match="expected the same number of features D"):
        support_size(x, x[:, :1], x)
    with pytest.raises(ValueError, match=r"expected held_out of shape \(N, D\), N of 2 or more, got \(1, 2\)"):
        support_size(x, x[:1], x)
