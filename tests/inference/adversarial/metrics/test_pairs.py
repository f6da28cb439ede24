"""Blocks of pairs: the distances they hold, and what is refused before any is computed."""

import math

import pytest
import torch

from posterity.inference.adversarial.metrics import _pairs


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_chunks_hold_every_distance(chunk, monkeypatch):
    monkeypatch.setattr(_pairs, "CHUNK", chunk)
    x, y = torch.randn(13, 4, dtype=torch.double), torch.randn(9, 4, dtype=torch.double) + 100
    truth = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    chunks = list(_pairs.squared_distance_chunks(x, y))
    torch.testing.assert_close(torch.cat([square for _, square in chunks]), truth, rtol=1e-10, atol=0)
    assert [index for rows, _ in chunks for index in range(13)[rows]] == list(range(13))
    assert all(square.numel() <= max(chunk, 9) for _, square in chunks)
    own = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    for rows, square in _pairs.squared_distance_chunks(x):
        torch.testing.assert_close(square, own[rows, rows.start :], rtol=1e-10, atol=0)


def test_equal_rows_are_at_distance_zero_and_near_ones_are_not():
    """Also far from the origin, where |x|² + |y|² - 2 x·y by itself would be off by 1."""
    x = torch.randn(50, 20, dtype=torch.double) + 1e7
    ((_, square),) = _pairs.squared_distance_chunks(x, x.clone())
    assert bool((square.diagonal() == 0).all())
    x[1] = x[0]
    x[1, 0] += 1e-4
    ((_, square),) = _pairs.squared_distance_chunks(x)
    assert float(square[0, 1]) == pytest.approx(1e-8, rel=1e-3)


def test_samples_that_are_no_finite_real_matrix_are_refused():
    good = torch.zeros(2, 3)
    for bad, got in ((torch.zeros(3), "(3,)"), (torch.zeros(1, 3), "(1, 3)"), (torch.zeros(2, 0), "(2, 0)")):
        with pytest.raises(ValueError, match=r"expected y of shape \(N, D\), N of 2 or more, got \(") as error:
            _pairs.check_samples(x=good, y=bad)
        assert str(error.value).endswith(got)
    with pytest.raises(ValueError, match=r"expected x of shape \(N, D\), N of 2 or more, got list"):
        _pairs.check_samples(x=[[1.0], [2.0]])
    with pytest.raises(ValueError, match="expected finite y, got 2 of 6 that are nan or infinite"):
        _pairs.check_samples(x=good, y=torch.tensor([[0.0, math.nan, math.inf], [0.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"expected the same number of features D, got {'x': 3, 'y': 4}"):
        _pairs.check_samples(x=good, y=torch.zeros(2, 4))


def test_checked_samples_are_float64_without_gradients():
    x = torch.ones(2, 1, requires_grad=True)
    (checked,) = _pairs.check_samples(x=x)
    assert (checked.dtype, checked.requires_grad) == (torch.double, False)
