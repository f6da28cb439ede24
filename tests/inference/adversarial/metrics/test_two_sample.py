"""The kernel distance against closed forms and double loops, and its test against every permutation."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from posterity.inference.adversarial.metrics import _pairs, kernel_distance, kernel_test, median_bandwidths, two_sample

BANDWIDTHS = (0.5, 1.0, 3.0)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def by_loops(x, y, kernel):
    """Gretton et al. 2012, eq. 3."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def rbf(a, b):
    return sum(math.exp(-float(((a - b) ** 2).sum()) / (2 * width**2)) for width in BANDWIDTHS) / len(BANDWIDTHS)


def polynomial(a, b):
    return (float(a @ b) / len(a) + 1) ** 3


def normal_rbf(shift, dimensions):
    """Between N(0, I) and N(shift, I): x - y is N(shift, 2 I), and the mean of a normal density is one."""
    return np.mean(
        [
            2 * (w**2 / (w**2 + 2)) ** (dimensions / 2) * (1 - math.exp(-(shift**2) / (2 * (w**2 + 2))))
            for w in BANDWIDTHS
        ]
    )


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_kernel_distance_is_unbiased_for_two_normals(shift):
    """Mean of 600 pairs of samples (seeds 0 to 599) of 12 and 9 rows, within 4 standard errors of the closed forms."""
    off = torch.tensor([shift, 0.0])
    pairs = [
        (kernel_distance(x, y, bandwidths=BANDWIDTHS), kernel_distance(x[:, :1], y[:, :1], kernel="polynomial"))
        for x, y in ((draws(seed, 12, 2), draws(10_000 + seed, 9, 2) + off) for seed in range(600))
    ]
    # (x y + 1)³ has the features √3 x, √3 x², x³; a normal has the moments m, 1 + m², m³ + 3 m.
    cubic = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    for values, truth in zip(np.array(pairs).T, (normal_rbf(shift, 2), cubic), strict=True):
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(len(values))
        assert values.min() < 0  # the biased estimate is a square


def test_many_rows_come_close_to_the_closed_form():
    x, y = draws(0, 3000, 2), draws(1, 3000, 2) + torch.tensor([0.7, 0.0])
    assert kernel_distance(x, y, bandwidths=BANDWIDTHS) == pytest.approx(normal_rbf(0.7, 2), rel=0.1)


@pytest.mark.parametrize("chunk", [1, 11, 64, 2**20])
def test_kernel_distance_in_chunks_agrees_with_loops(chunk, monkeypatch):
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    x, y = draws(0, 8, 3), draws(1, 5, 3) + 0.5
    assert kernel_distance(x, y, bandwidths=BANDWIDTHS) == pytest.approx(by_loops(x, y, rbf), abs=1e-12)
    assert kernel_distance(x, y, kernel="polynomial") == pytest.approx(by_loops(x, y, polynomial), abs=1e-12)


@pytest.mark.parametrize("kernel", ["rbf", "polynomial"])
def test_p_value_agrees_with_all_permutations(kernel):
    """126 ways to choose 4 of 9 rows; 20,000 random ones (seed 0), within 4 standard errors."""
    x, y = draws(3, 4, 2), draws(4, 5, 2) + 0.8
    pooled, observed = torch.cat([x, y]), kernel_distance(x, y, kernel=kernel)
    chosen = [list(rows) for rows in itertools.combinations(range(9), 4)]
    others = [[row for row in range(9) if row not in rows] for rows in chosen]
    every = [kernel_distance(pooled[a], pooled[b], kernel=kernel) for a, b in zip(chosen, others, strict=True)]
    share = np.mean(np.array(every) >= observed - 1e-12)
    test = kernel_test(x, y, permutations=20_000, seed=0, kernel=kernel)
    assert test.distance == pytest.approx(observed, rel=1e-12)
    assert 0.05 < share < 0.5  # otherwise the comparison has no power
    assert abs(test.p_value - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_p_values_are_uniform_where_distributions_are_equal():
    """500 pairs of samples (seeds 0 to 499) of 12 and 20 rows in 20 bins: chi-squared at a failure rate of 1e-3."""
    p_values = [
        kernel_test(draws(seed, 12, 2), draws(10_000 + seed, 20, 2), permutations=99, seed=seed).p_value
        for seed in range(500)
    ]
    counts = np.bincount(np.ceil(np.array(p_values) * 20 - 1e-9).astype(int) - 1, minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3, counts


def test_p_values_are_small_where_they_differ():
    x, y = draws(0, 200, 5), draws(1, 200, 5)
    shifted = y + 0.4
    assert kernel_test(x, shifted, seed=0).p_value == 1 / 501
    wide = kernel_test(x, 1.5 * y, permutations=199, seed=0)
    assert wide.p_value == 1 / 200
    assert kernel_test(x, shifted, permutations=199, seed=0, kernel="polynomial").p_value == 1 / 200


def test_ties_count_against_a_difference():
    """Many permutations of two equally frequent values tie; with 2 + 2 rows a third are as far apart."""
    x, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])
    test = kernel_test(x, y, permutations=5000, seed=0, bandwidths=[1.0])
    assert test.p_value == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 5000))
    assert kernel_test(x, x, permutations=20, seed=0, bandwidths=[1.0]).p_value == 1


@pytest.mark.parametrize(("chunk", "columns"), [(40, 7), (333, 1), (2**20, 50)])
def test_chunks_do_not_change_the_test(chunk, columns, monkeypatch):
    x, y = draws(0, 15, 3), draws(1, 22, 3) + 0.3
    whole = kernel_test(x, y, permutations=200, seed=5)
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    monkeypatch.setattr(two_sample, "COLUMNS", columns)
    parts = kernel_test(x, y, permutations=200, seed=5)
    assert parts.p_value == whole.p_value
    assert parts.distance == pytest.approx(whole.distance, rel=1e-10)


def test_a_test_depends_on_its_seed_alone():
    x, y = draws(0, 15, 3), draws(1, 22, 3)
    before = torch.get_rng_state()
    first, again, other = (kernel_test(x, y, permutations=200, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.p_value != other.p_value
    assert torch.equal(torch.get_rng_state(), before)


def test_median_bandwidths_of_points_and_of_normals():
    """Distances 1, 2, 3 of three points; beyond 1,000 rows the median of |x - y| for normals, √2 · 0.6745."""
    assert median_bandwidths(torch.tensor([[0.0], [1.0], [3.0]])) == (0.5, 1.0, 2.0, 4.0, 8.0)
    same = torch.tensor([[0.0]] * 5 + [[1.0]])
    assert median_bandwidths(same)[2] == 1  # pairs of equal rows are left out
    sample = draws(0, 4000, 1)
    assert median_bandwidths(sample)[2] == pytest.approx(math.sqrt(2) * stats.norm.ppf(0.75), rel=0.03)
    assert median_bandwidths(sample.flip(0)) == median_bandwidths(sample)


cases = {"seed": st.integers(0, 10_000), "n": st.integers(2, 6), "m": st.integers(2, 6), "d": st.integers(1, 3)}


@settings(max_examples=20, deadline=None)
@given(**cases, scale=st.floats(0.01, 100))
def test_kernel_distance_depends_on_neither_order_nor_units(seed, n, m, d, scale):
    x, y = draws(seed, n, d), draws(seed + 1, m, d)
    value = kernel_distance(x, y)
    same = [(y, x), (x.flip(0), y.flip(0)), (scale * x + 3, scale * y + 3), (x.flip(1), y.flip(1))]
    assert [kernel_distance(*pair) for pair in same] == pytest.approx([value] * 4, abs=1e-9)
    cubic = kernel_distance(x, y, kernel="polynomial")
    assert kernel_distance(y, x, kernel="polynomial") == pytest.approx(cubic, rel=1e-9, abs=1e-9)


def test_bad_arguments_of_the_kernel_test_are_refused():
    x, y = torch.zeros(3, 2), torch.ones(3, 2)
    with pytest.raises(ValueError, match="expected kernel to be one of 'rbf', 'polynomial', got 'linear'"):
        kernel_distance(x, y, kernel="linear")
    with pytest.raises(ValueError, match="expected bandwidths to be None for the polynomial kernel"):
        kernel_distance(x, y, kernel="polynomial", bandwidths=[1.0])
    with pytest.raises(ValueError, match="expected every bandwidth to be a finite number above 0, got -1"):
        kernel_distance(x, y, bandwidths=[1.0, -1.0])
    with pytest.raises(ValueError, match="expected at least one of bandwidths, got none"):
        kernel_distance(x, y, bandwidths=[])
    with pytest.raises(ValueError, match="expected rows that differ, got 6 equal ones"):
        kernel_distance(x, x)
    with pytest.raises(ValueError, match=r"expected permutations to be a whole number of 1 or more, got 0"):
        kernel_test(x, y, permutations=0, seed=0)
    with pytest.raises(ValueError, match=r"expected seed to be a whole number of 0 or more, got None"):
        kernel_test(x, y, seed=None)
    with pytest.raises(ValueError, match="expected the same number of features D"):
        kernel_test(x, y[:, :1], seed=0)
    with pytest.raises(ValueError, match=r"expected sample of shape \(N, D\), N of 2 or more, got \(1, 2\)"):
        median_bandwidths(x[:1])
