"""Mixtures in chunks of rows: every row once, in float64, and draws from the mixture of their own row."""

import numpy as np
import pytest
import torch
from scipy import stats

from posterity.models import Mixture
from posterity.models.mixtures import row_chunks
from tests.mixture_cases import random_mixture, several


@pytest.mark.parametrize("chunk", [1, 12, 30, 10**6])
@pytest.mark.parametrize("per_row", [1, 3])
def test_every_row_comes_once_in_float64_and_chunks_have_their_size(chunk, per_row, monkeypatch):
    monkeypatch.setattr(row_chunks, "CHUNK", chunk)
    mixture = random_mixture(7, components=4, dtype=torch.float32)
    parts = list(row_chunks.row_chunks(mixture, per_row))
    assert [row for rows, _ in parts for row in range(rows.start, rows.stop)] == list(range(7))
    for rows, part in parts:
        count = rows.stop - rows.start
        assert count == 1 or count * 4 * per_row <= chunk
        assert part.mean.dtype == torch.double
        torch.testing.assert_close(part.mean, mixture[rows].to(torch.double).mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 13, 10**6])
def test_a_function_by_rows_is_that_of_the_whole(chunk, monkeypatch):
    monkeypatch.setattr(row_chunks, "CHUNK", chunk)
    mixture, y = random_mixture(7, components=4), torch.linspace(-3, 3, 7, dtype=torch.double)
    found = row_chunks.by_rows(mixture, lambda part, rows: torch.stack([part.log_prob(y[rows]), part.cdf(y[rows])]))
    np.testing.assert_allclose(found, torch.stack([mixture.log_prob(y), mixture.cdf(y)]), rtol=1e-12)


def test_draws_follow_the_mixture_of_their_row(monkeypatch):
    """Kolmogorov and Smirnov in 5 rows, each at a false alarm in a thousand; two chunks."""
    mixture = random_mixture(5, components=3, seed=2)
    monkeypatch.setattr(row_chunks, "CHUNK", 3 * 3 * 2000)
    draws = row_chunks.sample(mixture, 2000, seed=0)
    assert draws.shape == (2000, 5)
    for row in range(5):
        one = mixture[row]
        assert stats.kstest(draws[:, row], lambda v, one=one: one.cdf(torch.as_tensor(v)).numpy()).pvalue > 1e-3


def test_draws_of_several_targets_have_their_mean():
    mixture = several("full", 3, targets=2)
    draws = row_chunks.sample(mixture, 20_000, seed=0)
    assert draws.shape == (20_000, 3, 2)
    error = (mixture.variance / 20_000).sqrt()
    assert bool((np.abs(draws.mean(0) - mixture.mean.numpy()) < 5 * error.numpy()).all())


def test_the_seed_decides_and_the_global_state_is_left_alone():
    mixture = Mixture.normal(torch.zeros(3, 2), torch.randn(3, 2), torch.ones(3, 2))
    state = torch.get_rng_state()
    first, again, other = (row_chunks.sample(mixture, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (first == again).all()
    assert not (first == other).any()
