"""Precision, recall, density and coverage against loops, expectations, and generators with one fault each."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.inference.adversarial.metrics import _pairs, expected_coverage, precision_recall


def by_loops(real, fake, k):
    """The definitions of the papers."""

    def distance(a, b):
        return math.sqrt(float(((a - b) ** 2).sum()))

    def radii(sample):
        return [sorted(distance(a, b) for j, b in enumerate(sample) if j != i)[k - 1] for i, a in enumerate(sample)]

    real_radii, fake_radii = radii(real), radii(fake)
    inside = [[distance(y, x) <= r for x, r in zip(real, real_radii, strict=True)] for y in fake]
    recalled = [any(distance(x, y) <= r for y, r in zip(fake, fake_radii, strict=True)) for x in real]
    return {
        "precision": sum(map(any, inside)) / len(fake),
        "recall": sum(recalled) / len(real),
        "density": sum(map(sum, inside)) / (k * len(fake)),
        "coverage": sum(map(any, zip(*inside, strict=True))) / len(real),
    }


@pytest.mark.parametrize("chunk", [1, 23, 100, 2**20])
@pytest.mark.parametrize("k", [1, 4])
def test_precision_recall_in_chunks_agrees_with_loops(chunk, k, monkeypatch):
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    real, fake = torch.randn(27, 3).double(), 0.6 * torch.randn(19, 3).double() + 0.5
    assert precision_recall(real, fake, k) == pytest.approx(by_loops(real, fake, k), abs=1e-12)
    # On a lattice most distances tie, and many are zero.
    real, fake = torch.randint(4, (27, 2)).double(), torch.randint(1, 6, (19, 2)).double()
    assert precision_recall(real, fake, k) == pytest.approx(by_loops(real, fake, k), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 5), (60, 25, 2), (30, 80, 1)])
def test_equal_distributions_have_the_expected_density_and_coverage(n, m, k):
    """Means of 300 pairs of samples within 4 standard errors; precision and recall have no such expectation."""
    pairs = [precision_recall(torch.randn(n, 3), torch.randn(m, 3), k) for _ in range(300)]
    for name, truth in (("density", 1.0), ("coverage", expected_coverage(n, m, k))):
        values = torch.tensor([f[name] for f in pairs], dtype=torch.double)
        assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(300), name


def test_expected_coverage():
    assert expected_coverage(2, 1, 1) == 0.5
    assert expected_coverage(4, 2, 2) == pytest.approx(1 - 3 * 2 / (5 * 4))
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-5)


def test_each_fault_lowers_its_metric():
    """Four clusters far apart: two dropped, noise added, an outlier; 1,000 samples each."""

    def clusters(which, n=1000):
        return 100 * torch.tensor(which)[torch.randint(len(which), (n,)), None] + torch.randn(n, 2)

    real = clusters([0.0, 1.0, 2.0, 3.0])
    perfect = precision_recall(real, clusters([0.0, 1.0, 2.0, 3.0]))
    assert perfect["precision"] > 0.97
    assert perfect["recall"] > 0.97
    assert perfect["coverage"] == pytest.approx(expected_coverage(1000, 1000), abs=0.03)

    dropped = precision_recall(real, clusters([0.0, 1.0]))
    assert dropped["precision"] > 0.97
    assert dropped["density"] == pytest.approx(1, abs=0.1)
    assert dropped["recall"] == pytest.approx(0.5, abs=0.05)
    assert dropped["coverage"] == pytest.approx(0.5, abs=0.05)

    wrong = clusters([0.0, 1.0, 2.0, 3.0])
    wrong[:300] += 50
    metrics = precision_recall(real, wrong)
    assert metrics["precision"] == pytest.approx(0.7, abs=0.03)
    assert metrics["recall"] > 0.97

    # In the wide neighbourhood of one real outlier noise is precise but not dense: it is in 1 neighbourhood, not in k.
    real[0] = torch.tensor([1e4, 1e4])
    metrics = precision_recall(real, 100 * torch.randn(1000, 2) + 2000, k=5)
    assert (metrics["precision"], metrics["density"]) == (1, 1 / 5)


def test_disjoint_and_identical_samples():
    x = torch.randn(50, 4)
    assert set(precision_recall(x, x + 100).values()) == {0.0}
    same = precision_recall(x, x)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert same["density"] == pytest.approx(6 / 5)  # itself and its 5 neighbours
    # A collapsed generator whose one sample is real.
    point = precision_recall(x, x[:1].repeat(20, 1))
    assert (point["precision"], point["recall"]) == (1, 1 / 50)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 3), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_precision_recall_depends_on_neither_order_nor_units(seed, k, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(n, 2, generator=generator, dtype=torch.double) for n in (9, 7))
    metrics = precision_recall(real, fake, k)
    assert precision_recall(real.flip(0), fake.flip(0), k) == metrics
    assert precision_recall(scale * real + shift, scale * fake + shift, k) == metrics
    # Exchanging the samples exchanges precision and recall.
    swapped = precision_recall(fake, real, k)
    assert (swapped["precision"], swapped["recall"]) == (metrics["recall"], metrics["precision"])


def test_bad_arguments_of_precision_recall_are_refused():
    x = torch.randn(6, 2)
    for k in (0, 4, 2.5):
        with pytest.raises(ValueError, match="expected k to be a whole number from 1 to 3"):
            precision_recall(x, x[:4], k)
    with pytest.raises(ValueError, match=r"expected the same number of features D, got {'real': 2, 'fake': 1}"):
        precision_recall(x, x[:, :1], 1)
    with pytest.raises(ValueError, match=r"expected fake of shape \(N, D\), N of 2 or more, got \(1, 2\)"):
        precision_recall(x, x[:1], 1)
    with pytest.raises(ValueError, match="expected k to be a whole number from 1 to 9"):
        expected_coverage(10, 10, 10)
    with pytest.raises(ValueError, match="expected fake to be a whole number of 1 or more, got 0"):
        expected_coverage(10, 0, 2)
