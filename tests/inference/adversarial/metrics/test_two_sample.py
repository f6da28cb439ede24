"""The kernel distance against closed forms and double loops, and its test against every permutation."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from posterity.inference.adversarial.metrics import _pairs, kernel_distance, kernel_test, median_widths, two_sample

WIDTHS = (0.5, 1.0, 3.0)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def by_loops(x, y, kernel):
    """Gretton et al. 2012, eq. 3, as it is written."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def rbf(a, b):
    return sum(math.exp(-float(((a - b) ** 2).sum()) / (2 * width**2)) for width in WIDTHS) / len(WIDTHS)


def polynomial(a, b):
    return (float(a @ b) / len(a) + 1) ** 3


def normal_rbf(shift, dimensions):
    """Between N(0, I) and N(shift, I): x - y is N(shift, 2 I), and the mean of a normal density is one."""
    return np.mean(
        [2 * (w**2 / (w**2 + 2)) ** (dimensions / 2) * (1 - math.exp(-(shift**2) / (2 * (w**2 + 2)))) for w in WIDTHS]
    )


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_unbiased_for_two_normals(shift):
    """Mean of 600 pairs of samples (seeds 0 to 599) of 12 and 9 rows, within 4 standard errors of the closed forms."""
    off = torch.tensor([shift, 0.0])
    found = [
        (kernel_distance(x, y, widths=WIDTHS), kernel_distance(x[:, :1], y[:, :1], kernel="polynomial"))
        for x, y in ((draws(seed, 12, 2), draws(10_000 + seed, 9, 2) + off) for seed in range(600))
    ]
    # (x y + 1)³ has the features √3 x, √3 x², x³; a normal has the moments m, 1 + m², m³ + 3 m.
    cubic = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    for values, truth in zip(np.array(found).T, (normal_rbf(shift, 2), cubic), strict=True):
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(len(values))
        assert values.min() < 0  # no square, which would be biased


def test_many_rows_come_close_to_the_closed_form():
    x, y = draws(0, 3000, 2), draws(1, 3000, 2) + torch.tensor([0.7, 0.0])
    assert kernel_distance(x, y, widths=WIDTHS) == pytest.approx(normal_rbf(0.7, 2), rel=0.1)


@pytest.mark.parametrize("block", [1, 11, 64, 2**20])
def test_blocks_agree_with_loops(block, monkeypatch):
    monkeypatch.setattr(_pairs, "BLOCK", block)
    x, y = draws(0, 8, 3), draws(1, 5, 3) + 0.5
    assert kernel_distance(x, y, widths=WIDTHS) == pytest.approx(by_loops(x, y, rbf), abs=1e-12)
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
    found = kernel_test(x, y, permutations=20_000, seed=0, kernel=kernel)
    assert found.distance == pytest.approx(observed, rel=1e-12)
    assert 0.05 < share < 0.5  # else nothing is tested
    assert abs(found.p_value - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_p_values_are_uniform_where_distributions_are_equal():
    """500 pairs of samples (seeds 0 to 499) of 12 and 20 rows in 20 bins: chi-squared at a failure rate of 1e-3."""
    found = [
        kernel_test(draws(seed, 12, 2), draws(10_000 + seed, 20, 2), permutations=99, seed=seed).p_value
        for seed in range(500)
    ]
    counts = np.bincount(np.ceil(np.array(found) * 20 - 1e-9).astype(int) - 1, minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3, counts


def test_p_values_are_small_where_they_differ():
    x, y = draws(0, 200, 5), draws(1, 200, 5)
    shifted = y + 0.4
    assert kernel_test(x, shifted, seed=0).p_value == 1 / 501
    wide = kernel_test(x, 1.5 * y, permutations=199, seed=0)
    assert wide.p_value == 1 / 200
    # A cubic kernel has no moments of even orders that an rbf kernel lacks, and sees the same.
    assert kernel_test(x, shifted, permutations=199, seed=0, kernel="polynomial").p_value == 1 / 200


def test_ties_count_as_chance():
    """Of two values in even numbers many permutations change nothing; at 2 + 2 rows a third is as far apart."""
    x, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])
    found = kernel_test(x, y, permutations=5000, seed=0, widths=[1.0])
    assert found.p_value == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 5000))
    assert kernel_test(x, x, permutations=20, seed=0, widths=[1.0]).p_value == 1


@pytest.mark.parametrize(("block", "columns"), [(40, 7), (333, 1), (2**20, 50)])
def test_blocks_do_not_change_the_test(block, columns, monkeypatch):
    x, y = draws(0, 15, 3), draws(1, 22, 3) + 0.3
    whole = kernel_test(x, y, permutations=200, seed=5)
    monkeypatch.setattr(_pairs, "BLOCK", block)
    monkeypatch.setattr(two_sample, "COLUMNS", columns)
    parts = kernel_test(x, y, permutations=200, seed=5)
    assert parts.p_value == whole.p_value
    assert parts.distance == pytest.approx(whole.distance, rel=1e-10)


def test_the_seed_is_all_that_is_random():
    x, y = draws(0, 15, 3), draws(1, 22, 3)
    before = torch.get_rng_state()
    first, again, other = (kernel_test(x, y, permutations=200, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.p_value != other.p_value
    assert torch.equal(torch.get_rng_state(), before)


def test_median_widths():
    """Distances 1, 2, 3 of three points; beyond 1,000 rows the median of |x - y| for normals, √2 · 0.6745."""
    assert median_widths(torch.tensor([[0.0], [1.0], [3.0]])) == (0.5, 1.0, 2.0, 4.0, 8.0)
    same = torch.tensor([[0.0]] * 5 + [[1.0]])
    assert median_widths(same)[2] == 1  # equal rows have no width
    sample = draws(0, 4000, 1)
    assert median_widths(sample)[2] == pytest.approx(math.sqrt(2) * stats.norm.ppf(0.75), rel=0.03)
    assert median_widths(sample.flip(0)) == median_widths(sample)


cases = {"seed": st.integers(0, 10_000), "n": st.integers(2, 6), "m": st.integers(2, 6), "d": st.integers(1, 3)}


@settings(max_examples=20, deadline=None)
@given(**cases, scale=st.floats(0.01, 100))
def test_neither_order_nor_units_matter(seed, n, m, d, scale):
    x, y = draws(seed, n, d), draws(seed + 1, m, d)
    value = kernel_distance(x, y)
    same = [(y, x), (x.flip(0), y.flip(0)), (scale * x + 3, scale * y + 3), (x.flip(1), y.flip(1))]
    assert [kernel_distance(*pair) for pair in same] == pytest.approx([value] * 4, abs=1e-9)
    cubic = kernel_distance(x, y, kernel="polynomial")
    assert kernel_distance(y, x, kernel="polynomial") == pytest.approx(cubic, rel=1e-9, abs=1e-9)


def test_bad_settings_are_refused():
    x, y = torch.zeros(3, 2), torch.ones(3, 2)
    with pytest.raises(ValueError, match="expected the kernel 'rbf' or 'polynomial', got 'linear'"):
        kernel_distance(x, y, kernel="linear")
    with pytest.raises(ValueError, match="expected widths for the kernel 'rbf' alone"):
        kernel_distance(x, y, kernel="polynomial", widths=[1.0])
    with pytest.raises(ValueError, match="expected widths to be a finite number above 0, got -1"):
        kernel_distance(x, y, widths=[1.0, -1.0])
    with pytest.raises(ValueError, match="expected at least one width, got none"):
        kernel_distance(x, y, widths=[])
    with pytest.raises(ValueError, match="expected rows that differ, got 6 equal ones"):
        kernel_distance(x, x)
    with pytest.raises(ValueError, match=r"expected permutations to be a whole number of 1 or more, got 0"):
        kernel_test(x, y, permutations=0, seed=0)
    with pytest.raises(ValueError, match=r"expected seed to be a whole number of 0 or more, got None"):
        kernel_test(x, y, seed=None)
    with pytest.raises(ValueError, match="expected the same number of features D"):
        kernel_test(x, y[:, :1], seed=0)
    with pytest.raises(ValueError, match=r"expected sample of shape \(N, D\), N of 2 or more, got \(1, 2\)"):
        median_widths(x[:1])
