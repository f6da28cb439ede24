"""Chunks of rows, side by side, are the whole mixture in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from posterity.models.mixtures import Mixture, row_chunks


@pytest.fixture
def mixture() -> Mixture:
    return Mixture.normal(torch.randn(11, 3), torch.randn(11, 3), torch.rand(11, 3) + 0.1)


@pytest.fixture(params=[1, 3 * 4, 3 * 11])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks of 1, 4 and all 11 rows."""
    monkeypatch.setattr(row_chunks, "CHUNK", request.param)
    return max(1, request.param // 3)


def test_chunks_cover_each_row_once(mixture, chunk):
    parts = list(row_chunks.row_chunks(mixture))
    assert len(parts) == math.ceil(11 / chunk)
    assert [row for rows, _ in parts for row in range(11)[rows]] == list(range(11))
    for rows, part in parts:
        torch.testing.assert_close(part.component_distribution.loc, mixture.component_distribution.loc[rows].double())
        assert part.log_weights.dtype == torch.double


def test_a_function_of_all_chunks_is_that_of_the_whole(mixture, chunk):
    y = torch.randn(11, dtype=torch.double)
    expected = mixture.to(torch.double).log_prob(y)
    scores = row_chunks.by_rows(mixture, lambda part, rows: part.log_prob(y[rows]))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    both = row_chunks.by_rows(mixture, lambda part, rows: torch.stack([part.mean, part.variance]))
    np.testing.assert_allclose(both, torch.stack([mixture.mean, mixture.variance]), rtol=1e-5)


def test_samples_follow_the_distribution_function(mixture, chunk):
    """Kolmogorov-Smirnov in each row, at a failure rate of 1e-4 for all rows together."""
    draws = row_chunks.sample(mixture, 2000, seed=1)
    assert draws.shape == (2000, 11)
    for row in range(11):
        one = mixture[row].to(torch.double)
        p = stats.kstest(draws[:, row], lambda y, one=one: one.cdf(torch.as_tensor(y)).numpy()).pvalue
        assert p > 1e-4 / 11
    np.testing.assert_array_equal(draws, row_chunks.sample(mixture, 2000, seed=1))
