"""Shares of classes: divergences in closed form, and the floor of a perfect generator."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from posterity.inference.adversarial.metrics import class_histogram


def test_divergences_in_closed_form():
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    histogram = class_histogram(labels, 4, reference=torch.tensor([0.25, 0.25, 0.4, 0.1]))
    assert histogram.shares.tolist() == [0.5, 0.3, 0.2, 0.0]
    even = 0.5 * math.log(0.5 * 4) + 0.3 * math.log(0.3 * 4) + 0.2 * math.log(0.2 * 4)
    assert histogram.kl_uniform == pytest.approx(even, rel=1e-12)
    other = 0.5 * math.log(0.5 / 0.25) + 0.3 * math.log(0.3 / 0.25) + 0.2 * math.log(0.2 / 0.4)
    assert histogram.kl_reference == pytest.approx(other, rel=1e-6)
    assert (histogram.missing, histogram.largest, histogram.kl_floor) == (1, 0.5, 3 / 20)


def test_even_shares_and_single_classes_are_the_extremes():
    even = class_histogram(torch.arange(30) % 10, 10)
    assert (even.kl_uniform, even.missing, even.kl_reference) == (pytest.approx(0, abs=1e-12), 0, None)
    one = class_histogram(torch.full((7,), 3), 10)
    assert (one.kl_uniform, one.missing, one.largest) == (pytest.approx(math.log(10)), 9, 1)
    only = torch.tensor([1.0, 0.0, 0.0])
    assert class_histogram(torch.tensor([0, 1]), 3, reference=only).kl_reference == math.inf
    assert class_histogram(torch.tensor([0, 0]), 3, reference=only).kl_reference == 0


@pytest.mark.parametrize("share", [torch.full((10,), 0.1), torch.arange(1.0, 11) / 55], ids=["even", "uneven"])
def test_the_floor_is_the_mean_divergence_of_a_perfect_generator(share):
    """400 samples of 1,000: twice N times the divergence is chi-squared, of 9 degrees of freedom."""
    histograms = [
        class_histogram(torch.multinomial(share, 1000, replacement=True), 10, reference=share) for _ in range(400)
    ]
    values = torch.tensor([f.kl_reference for f in histograms]).double()
    assert abs(float(values.mean()) - histograms[0].kl_floor) < 4 * float(values.std()) / 20
    assert stats.kstest((2000 * values).numpy(), stats.chi2(9).cdf).pvalue > 1e-3


def test_a_sample_counts_for_its_most_probable_class():
    probabilities = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.5, 0.4], [0.2, 0.45, 0.35], [0.0, 0.0, 1.0]])
    assert class_histogram(probabilities, 3).shares.tolist() == [0.25, 0.5, 0.25]


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30), seed=st.integers(0, 100))
def test_neither_order_nor_names_of_classes_matter(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    given_labels, names = torch.tensor(labels), torch.randperm(5, generator=generator)
    histogram, other = class_histogram(given_labels, 5), class_histogram(names[given_labels.flip(0)], 5)
    assert other.kl_uniform == pytest.approx(histogram.kl_uniform, abs=1e-12)
    assert (other.missing, other.largest) == (histogram.missing, histogram.largest)
    assert -1e-12 <= histogram.kl_uniform <= math.log(5) + 1e-12
    # One more class without samples adds log(6/5).
    assert class_histogram(given_labels, 6).kl_uniform == pytest.approx(histogram.kl_uniform + math.log(6 / 5))


def test_bad_labels_and_probabilities_are_refused():
    with pytest.raises(ValueError, match="expected labels from 0 to 2, got 0 to 3"):
        class_histogram(torch.tensor([0, 3]), 3)
    with pytest.raises(ValueError, match=r"expected labels of whole numbers, got torch\.float32"):
        class_histogram(torch.tensor([0.0, 1.0]), 3)
    for bad in (torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.tensor(1), [0, 1]):
        with pytest.raises(ValueError, match=r"expected labels \(N,\) or probabilities \(N, 3\), N of 1 or more, got"):
            class_histogram(bad, 3)
    with pytest.raises(ValueError, match=r"expected probabilities of 3 classes, got shape \(2, 4\)"):
        class_histogram(torch.full((2, 4), 0.25), 3)
    with pytest.raises(ValueError, match="expected probabilities of at least 0 that sum to 1, got sums from 3 to 3"):
        class_histogram(torch.ones(2, 3), 3)
    with pytest.raises(ValueError, match=r"expected reference of 3 classes, got shape \(2,\)"):
        class_histogram(torch.tensor([0, 1]), 3, reference=torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="expected reference of at least 0 that sum to 1"):
        class_histogram(torch.tensor([0, 1]), 3, reference=torch.tensor([1.5, -0.5, 0.0]))
    with pytest.raises(ValueError, match="expected classes to be a whole number of 2 or more, got 1"):
        class_histogram(torch.tensor([0, 0]), 1)
