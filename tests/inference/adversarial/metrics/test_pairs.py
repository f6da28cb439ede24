"""Blocks of pairs: the distances they hold, and what is refused before any is computed."""

import math

import pytest
import torch

from posterity.inference.adversarial.metrics import _pairs


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_blocks_hold_every_distance(block, monkeypatch):
    monkeypatch.setattr(_pairs, "BLOCK", block)
    x, y = torch.randn(13, 4, dtype=torch.double), torch.randn(9, 4, dtype=torch.double) + 100
    truth = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    blocks = list(_pairs.square_blocks(x, y))
    torch.testing.assert_close(torch.cat([square for _, square in blocks]), truth, rtol=1e-10, atol=0)
    assert [index for rows, _ in blocks for index in range(13)[rows]] == list(range(13))
    assert all(square.numel() <= max(block, 9) for _, square in blocks)
    own = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    for rows, square in _pairs.square_blocks(x):
        torch.testing.assert_close(square, own[rows, rows.start :], rtol=1e-10, atol=0)


def test_equal_rows_are_at_distance_zero_and_near_ones_are_not():
    """Also far from the origin, where |x|² + |y|² - 2 x·y by itself would be off by 1."""
    x = torch.randn(50, 20, dtype=torch.double) + 1e7
    ((_, square),) = _pairs.square_blocks(x, x.clone())
    assert bool((square.diagonal() == 0).all())
    x[1] = x[0]
    x[1, 0] += 1e-4
    ((_, square),) = _pairs.square_blocks(x)
    assert float(square[0, 1]) == pytest.approx(1e-8, rel=1e-3)


def test_bad_samples_are_refused():
    good = torch.zeros(2, 3)
    for bad, got in ((torch.zeros(3), "(3,)"), (torch.zeros(1, 3), "(1, 3)"), (torch.zeros(2, 0), "(2, 0)")):
        with pytest.raises(ValueError, match=r"expected y of shape \(N, D\), N of 2 or more, got \(") as error:
            _pairs.checked(x=good, y=bad)
        assert str(error.value).endswith(got)
    with pytest.raises(ValueError, match=r"expected x of shape \(N, D\), N of 2 or more, got list"):
        _pairs.checked(x=[[1.0], [2.0]])
    with pytest.raises(ValueError, match="expected finite y, got 2 values that are not"):
        _pairs.checked(x=good, y=torch.tensor([[0.0, math.nan, math.inf], [0.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"expected the same number of features D, got {'x': 3, 'y': 4}"):
        _pairs.checked(x=good, y=torch.zeros(2, 4))


def test_checked_samples_are_float64_without_gradients():
    x = torch.ones(2, 1, requires_grad=True)
    (found,) = _pairs.checked(x=x)
    assert (found.dtype, found.requires_grad) == (torch.double, False)
