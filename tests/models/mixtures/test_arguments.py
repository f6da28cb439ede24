"""Checks of parameters and values of mixtures."""

import math

import pytest
import torch

from posterity.models import Mixture, chunks
from posterity.models.mixtures.arguments import checked_normal


@pytest.mark.parametrize(
    ("logits", "loc", "scale", "message"),
    [
        ((3,), (3, 2), (3,), r"got \(3, 2\) and \(3,\)"),
        ((2,), (3, 2), (3, 2), r"expected logits of shape \(..., 3\), got \(2,\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(logits, loc, scale, message):
    with pytest.raises(ValueError, match=message):
        Mixture.multivariate_normal(torch.zeros(logits), torch.zeros(loc), torch.ones(scale))


@pytest.fixture
def few(monkeypatch):
    """Everything is very many."""
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
