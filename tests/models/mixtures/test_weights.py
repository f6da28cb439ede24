"""Component weights: Pyro's Categorical with normalisation at the first access."""

import math

import pyro.distributions as dist
import pytest
import torch

from posterity.models import Mixture, chunks
from posterity.models.mixtures.weights import Weights


@pytest.fixture
def few(monkeypatch):
    """Tensors of any size count as large."""
    monkeypatch.setattr(chunks, "LARGE", 0)


def test_they_say_what_a_categorical_says():
    logits = torch.randn(4, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)) + 7
    ours, theirs = Weights(logits), dist.Categorical(logits=logits)
    value = torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.probs, theirs.probs)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.batch_shape == theirs.batch_shape
    assert ours.param_shape == theirs.param_shape
    assert torch.equal(ours.enumerate_support(), theirs.enumerate_support())
    torch.manual_seed(0)
    mine = ours.sample((5,))
    torch.manual_seed(0)
    assert torch.equal(mine, theirs.sample((5,)))


@pytest.mark.parametrize("read_first", [True, False])
def test_expanded_they_are_the_same(read_first):
    weights = Weights(torch.tensor([0.0, 1.0]))
    if read_first:
        assert weights.logits.shape == (2,)
    wide = weights.expand((3, 4))
    assert wide.batch_shape == (3, 4)
    torch.testing.assert_close(wide.probs, torch.softmax(torch.tensor([0.0, 1.0]), -1).expand(3, 4, 2))
    mixture = Mixture(weights, dist.Normal(torch.zeros(2), 1.0)).expand((3,))
    assert mixture.log_prob(torch.zeros(3)).shape == (3,)
    assert isinstance(mixture.mixture_distribution, Weights)


def test_gradients_reach_the_logits_through_what_is_read_later():
    logits = torch.tensor([0.3, -0.2, 1.0], requires_grad=True)
    weights = Weights(logits)
    with torch.no_grad():
        kept = weights.logits  # a reading that records nothing does not cut the way for later ones
    assert kept.requires_grad
    (found,) = torch.autograd.grad(weights.log_prob(torch.tensor(2)), logits)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 1.0]) - torch.softmax(logits.detach(), -1))


def test_densities_and_samples_of_very_many_never_normalise(few):
    logits, loc = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    mixture = Mixture.normal(logits, loc, torch.ones(()).expand(6, 3).contiguous())
    assert mixture.log_prob(torch.zeros(6)).shape == (6,)
    assert mixture.sample().shape == (6,)
    assert "logits" not in vars(mixture.mixture_distribution)


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_logits_that_are_no_weights_are_refused(bad, many, monkeypatch):
    monkeypatch.setattr(chunks, "LARGE", 0 if many else 10**9)
    with pytest.raises(ValueError, match="expected logits with a finite maximum in each row"):
        Weights(torch.tensor([[0.0, 1.0], bad]))
    assert Weights(torch.tensor([bad]), validate_args=False).batch_shape == (1,)
    with pytest.raises(ValueError, match=r"expected logits of shape \(..., K\), K of 1 or more, got \(\)"):
        Weights(torch.tensor(1.0))


@pytest.mark.parametrize("many", [True, False])
def test_minus_infinity_is_no_weight(many, monkeypatch):
    monkeypatch.setattr(chunks, "LARGE", 0 if many else 10**9)
    assert Weights(torch.tensor([[0.0, -math.inf]])).probs.tolist() == [[1.0, 0.0]]
