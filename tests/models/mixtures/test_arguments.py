"""Checks of parameters and values of mixtures."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.models import Mixture, chunks
from posterity.models.mixtures.arguments import (
    as_tensor_like,
    broadcastable,
    check_value,
    checked_normal,
    has_finite_maximum,
)


@pytest.mark.parametrize(
    ("logits", "loc", "scale", "message"),
    [
        ((3,), (3, 2), (3,), r"got \(3, 2\) and \(3,\)"),
        ((2,), (3, 2), (3, 2), r"expected logits of shape \(..., 3\), got \(2,\)"),
    ],
)
def test_parts_of_several_targets_that_do_not_fit_are_refused(logits, loc, scale, message):
    with pytest.raises(ValueError, match=message):
        Mixture.multivariate_normal(torch.zeros(logits), torch.zeros(loc), torch.ones(scale))


@pytest.fixture
def few(monkeypatch):
    """Tensors of any size count as large."""
    monkeypatch.setattr(chunks, "LARGE", 0)


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize(
    ("loc", "scale", "name"),
    [(math.nan, 1.0, "loc"), (0.0, math.nan, "scale"), (0.0, 0.0, "scale"), (0.0, -1.0, "scale")],
)
def test_normals_that_are_none_are_refused(loc, scale, name, many, monkeypatch):
    monkeypatch.setattr(chunks, "LARGE", 0 if many else 10**9)
    with pytest.raises(ValueError, match=f"Expected parameter {name}"):
        checked_normal(torch.tensor([0.0, loc]), torch.tensor([1.0, scale]))


def test_the_validation_of_distributions_is_left_as_it_is(few):
    before = torch.distributions.Distribution._validate_args
    made = checked_normal(torch.zeros(3), torch.ones(3))
    assert torch.distributions.Distribution._validate_args == before
    assert made.log_prob(torch.zeros(3)).shape == (3,)


@settings(deadline=None)
@given(st.lists(st.integers(1, 3), max_size=3), st.lists(st.integers(1, 3), max_size=3))
def test_shapes_broadcast_where_those_of_torch_do(first, second):
    try:
        torch.broadcast_shapes(first, second)
    except RuntimeError:
        assert not broadcastable(first, second)
    else:
        assert broadcastable(first, second)


def test_a_value_has_the_event_shape_and_broadcasts_with_the_batch():
    batch, event, like = torch.Size([4]), torch.Size([2]), torch.zeros(1, dtype=torch.double)
    for shape in ((2,), (4, 2), (3, 4, 2), (3, 1, 2)):
        assert check_value(torch.zeros(shape), batch, event, like).shape == shape
    assert check_value([1, 2], batch, event, like).dtype == torch.double
    for wrong in (torch.zeros(3, 2), torch.zeros(4, 1), torch.tensor(0.0)):
        with pytest.raises(ValueError, match=r"expected value to broadcast with shape \(4, 2\), got shape"):
            check_value(wrong, batch, event, like)
    with pytest.raises(ValueError, match="expected value to be real numbers, got 'a'"):
        check_value("a", batch, event, like)


def test_the_largest_logit_of_each_row_is_finite():
    assert has_finite_maximum(torch.tensor([[0.0, -math.inf], [1.0, 2.0]]))
    for bad in ([-math.inf, -math.inf], [math.nan, 0.0], [math.inf, 0.0]):
        assert not has_finite_maximum(torch.tensor([[0.0, 0.0], bad]))


def test_read_only_arrays_are_copied_without_a_warning():
    """Columns of frames are read-only in pandas 3; torch warns of them once in a process, here always."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        values = np.array([0.25, 0.5])
        values.setflags(write=False)
        assert as_tensor_like("value", values, torch.zeros(())).tolist() == [0.25, 0.5]
    finally:
        torch.set_warn_always(always)
