"""Data of the quadrants follow the oracle, with the first quadrant of each case."""

import math

import pytest
import torch
from scipy import stats

from posterity.data import quadrants
from posterity.data.quadrants import HALF_WIDTH, HEAVY_NOISE, NOISE, in_first_quadrant

CASES = ("absence", "noise", "composition")


@pytest.mark.parametrize("case", CASES)
def test_y_follows_the_oracle(case):
    """Its distribution function at y is uniform: Kolmogorov-Smirnov on 20,000 rows of seed 0, p above 1e-4."""
    data = quadrants(20_000, case, seed=0, everywhere=True)
    oracle = data.oracle(data.x.double())
    below = oracle.cdf(data.y.double())
    for part in (in_first_quadrant(data.x), ~in_first_quadrant(data.x)):
        assert stats.kstest(below[part].numpy(), "uniform").pvalue > 1e-4


def test_no_rows_where_they_are_absent_and_as_many_in_each_other_quadrant():
    data = quadrants(30_000, "absence", seed=1)
    assert not bool(in_first_quadrant(data.x).any())
    assert float(data.x.abs().max()) <= HALF_WIDTH
    for sign in ((-1, 1), (1, -1), (-1, -1)):
        share = ((data.x * torch.tensor(sign)) > 0).all(-1).double().mean()
        assert abs(float(share) - 1 / 3) < 5 * math.sqrt(2 / 9 / 30_000)
    assert bool(in_first_quadrant(quadrants(100, "absence", seed=1, everywhere=True).x).any())


def test_the_first_quadrant_of_each_case():
    point = torch.tensor([[3.0, 4.0], [-3.0, 4.0]], dtype=torch.double)  # radius 5
    curve = 5 * math.cos(1.25 * math.pi) * math.exp(-0.25 * math.pi)
    noise = quadrants(1, "noise", seed=0).oracle(point)
    torch.testing.assert_close(noise.mean, torch.full((2,), curve, dtype=torch.double))
    torch.testing.assert_close(noise.stddev, torch.tensor([HEAVY_NOISE, NOISE], dtype=torch.double))
    both = quadrants(1, "composition", seed=0).oracle(point)
    torch.testing.assert_close(both.mean, torch.tensor([0.0, curve], dtype=torch.double))
    torch.testing.assert_close(both.variance, torch.tensor([curve**2 + NOISE**2, NOISE**2], dtype=torch.double))


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected case to be one of .*'absence'.*, got 'none'"):
        quadrants(10, "none", seed=0)
    with pytest.raises(ValueError, match="expected n"):
        quadrants(0, "noise", seed=0)
    with pytest.raises(ValueError, match=r"expected x of shape \(M, 2\), got \(3, 1\)"):
        quadrants(10, "noise", seed=0).oracle(torch.zeros(3, 1))
