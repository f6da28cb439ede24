"""Log densities for ``torch.func`` are those of Pyro and torch."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Multinomial

from posterity.inference.program.functional import Functional, functional

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("steps", [1, 2, 7, 8])
@pytest.mark.parametrize("batch", [(), (4,)])
def test_hidden_markov_models(steps, batch):
    logits = torch.randn(*batch, 3, 3, generator=GENERATOR, dtype=torch.double)
    observed = dist.Normal(logits[..., :1, :], 1.0)
    fn = dist.DiscreteHMM(logits[..., 0, :], logits.unsqueeze(-3), observed, duration=steps)
    value = fn.sample()
    torch.testing.assert_close(functional(fn).log_prob(value), fn.log_prob(value))
    torch.testing.assert_close(functional(fn.mask(True)).log_prob(value), fn.log_prob(value))


def test_gradients_for_all_chains_at_once():
    logits = torch.randn(5, 2, 2, generator=GENERATOR, dtype=torch.double)
    value = torch.randn(6, generator=GENERATOR, dtype=torch.double)

    def log_prob(logits):
        fn = dist.DiscreteHMM(logits[0], logits, dist.Normal(logits[1], 1.0), duration=6)
        return functional(fn).log_prob(value)

    found = torch.func.vmap(torch.func.grad(log_prob))(logits)
    for one, gradient in zip(logits, found, strict=True):
        leaf = one.clone().requires_grad_()
        dist.DiscreteHMM(leaf[0], leaf, dist.Normal(leaf[1], 1.0), duration=6).log_prob(value).backward()
        torch.testing.assert_close(gradient, leaf.grad)


@pytest.mark.parametrize("family", [Multinomial, dist.Multinomial])
def test_multinomials(family):
    probs = torch.tensor([[0.2, 0.8, 0.0], [0.5, 0.3, 0.2]], dtype=torch.double)
    fn = family(4, probs=probs)
    value = torch.tensor([[1.0, 3.0, 0.0], [2.0, 1.0, 1.0]], dtype=torch.double)
    torch.testing.assert_close(functional(fn).log_prob(value), fn.log_prob(value))
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), fn)
    torch.testing.assert_close(functional(mixture).log_prob(value[0]), mixture.log_prob(value[0]))


def test_other_distributions_are_not_changed():
    for fn in (dist.Normal(0.0, 1.0), dist.Normal(torch.zeros(2), 1.0).to_event(1), None):
        assert functional(fn) is fn
    message = {"fn": dist.Multinomial(4, torch.ones(3))}
    Functional()._pyro_sample(message)
    assert isinstance(message["fn"], dist.Multinomial)
    assert type(message["fn"]) is not dist.Multinomial
