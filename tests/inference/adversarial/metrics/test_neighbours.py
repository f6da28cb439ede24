"""Distances to the training samples: copies are detected, many or few, and new samples are not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.inference.adversarial.metrics import NearestTraining, _pairs, nearest_training


@pytest.mark.parametrize("chunk", [1, 50, 137, 2**20])
def test_nearest_training_in_chunks_agrees_with_loops(chunk, monkeypatch):
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    samples, training, held_out = torch.randn(11, 3), torch.randn(23, 3), torch.randn(7, 3)
    nearest = nearest_training(samples, training, held_out)
    every = [[float((a.double() - b.double()).norm()) for b in training] for a in samples]
    assert nearest.distances.tolist() == pytest.approx([min(row) for row in every])
    assert nearest.indices.tolist() == [row.index(min(row)) for row in every]
    assert nearest.held_out_distances.tolist() == pytest.approx(
        [min(float((a.double() - b.double()).norm()) for b in training) for a in held_out]
    )


def test_copies_are_told_from_new_samples():
    """2,000 training samples in 5 dimensions, 1,000 others; the ratio of new ones has a standard error of 0.02."""
    training, held_out, new = torch.randn(2000, 5), torch.randn(1000, 5), torch.randn(1000, 5)
    nearest = nearest_training(new, training, held_out)
    assert nearest.ratio == pytest.approx(1, abs=0.08)
    assert nearest.copied_share == pytest.approx(0.01, abs=0.015)

    copied = nearest_training(training[500:1500] + 0.01 * torch.randn(1000, 5), training, held_out)
    assert copied.ratio < 0.05
    assert copied.copied_share > 0.99
    assert bool((copied.indices == torch.arange(500, 1500)).double().mean() > 0.99)

    few = torch.cat([training[:100], new[100:]])
    nearest = nearest_training(few, training, held_out)
    assert nearest.ratio > 0.85  # the median does not see them
    assert nearest.copied_share == pytest.approx(0.109, abs=0.015)

    assert nearest_training(2 * new, training, held_out).ratio > 1.5


def test_exact_copies_are_at_exactly_zero():
    training = torch.randn(300, 50) + 1000
    nearest = nearest_training(training.flip(0), training, torch.randn(10, 50) + 1000)
    assert bool((nearest.distances == 0).all())
    assert torch.equal(nearest.indices, torch.arange(299, -1, -1))
    assert nearest.ratio == 0


def test_medians_and_their_ratio():
    distances, real = torch.tensor([1.0, 2.0, 3.0, 100.0]), torch.tensor([5.0, 4.0, 10.0])
    nearest = NearestTraining(distances, torch.arange(4), real)
    assert nearest.ratio == 0.5
    assert nearest.copied_share == 0.75  # below 4.02
    none = torch.zeros(3)
    assert NearestTraining(distances, torch.arange(4), none).ratio == math.inf
    assert math.isnan(NearestTraining(none, torch.arange(3), none).ratio)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_neither_order_nor_units_matter(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    samples, training, held_out = torch.randn(3, 20, 2, generator=generator, dtype=torch.double)
    nearest = nearest_training(samples, training, held_out)
    other = nearest_training(scale * samples + 2, scale * training.flip(0) + 2, scale * held_out.flip(0) + 2)
    assert other.ratio == pytest.approx(nearest.ratio)
    torch.testing.assert_close(other.distances, scale * nearest.distances)
    assert torch.equal(other.indices, 19 - nearest.indices)


def test_bad_samples_of_nearest_training_are_refused():
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match="expected the same number of features D"):
        nearest_training(x, x[:, :1], x)
    with pytest.raises(ValueError, match=r"expected held_out of shape \(N, D\), N of 2 or more, got \(0, 2\)"):
        nearest_training(x, x, x[:0])
    with pytest.raises(ValueError, match="expected finite training, got 10 of 10 that are nan or infinite"):
        nearest_training(x, x * math.nan, x)
