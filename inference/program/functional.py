"""Log densities of distributions whose own code ``torch.func`` cannot differentiate or batch.

Pyro's `DiscreteHMM` uses an ``autograd.Function`` without rules for ``torch.func``, and torch's `Multinomial` writes
into a tensor in place. The same log densities are computed here without either.
"""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Multinomial


class _DiscreteHMM(dist.DiscreteHMM):
    def log_prob(self, value: Tensor) -> Tensor:
        r"""The forward algorithm: products of transition matrices in log space, in $\log_2 T$ steps."""
        observed = self.observation_dist.log_prob(value.unsqueeze(-1 - self.observation_dist.event_dim))
        factors = self.transition_logits + observed.unsqueeze(-2)
        while factors.shape[-3] > 1:
            even = factors.shape[-3] // 2 * 2
            left, right = factors[..., 0:even:2, :, :], factors[..., 1:even:2, :, :]
            product = torch.logsumexp(left.unsqueeze(-1) + right.unsqueeze(-3), -2)
            factors = torch.cat([product, factors[..., even:, :, :]], -3)
        return torch.logsumexp(self.initial_logits + torch.logsumexp(factors[..., 0, :, :], -1), -1)


class _Multinomial(dist.Multinomial):
    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = torch.broadcast_tensors(self.logits, value)
        logits = torch.where((value == 0) & (logits == -torch.inf), 0.0, logits)
        return torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1) + (logits * value).sum(-1)


class Functional(Messenger):
    """Gives the distributions of all sites log densities that ``torch.func`` can differentiate and batch."""

    def _pyro_sample(self, msg: Any) -> None:
        msg["fn"] = functional(msg["fn"])


def functional(fn: Any) -> Any:
    """The distribution, or a copy of it whose log density ``torch.func`` can differentiate and batch."""
    if not isinstance(fn, Distribution):
        return fn
    parts = {name: part for name, part in vars(fn).items() if isinstance(part, Distribution)}
    changed: dict[str, Any] = {name: new for name, part in parts.items() if (new := functional(part)) is not part}
    kind: Any = None
    if type(fn) is dist.DiscreteHMM:
        kind = _DiscreteHMM
    elif type(fn) in (Multinomial, dist.Multinomial):
        kind = _Multinomial
    if kind is None and not changed:
        return fn
    fn = copy.copy(fn)
    fn.__class__ = kind or type(fn)
    vars(fn).update(changed)
    return fn
