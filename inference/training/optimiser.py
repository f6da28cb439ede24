"""Adam with a gain for each parameter: steps that do not depend on the units of the parameters.

Adam (Kingma & Ba 2015) moves every parameter by about the learning rate in each step, so a parameter of size 60 takes
thousands of steps, and one of size 1e-6 never converges. Here each parameter has a gain that multiplies the learning
rate. The gain starts at the unit of the parameter (the spread of its prior). It grows while the gradient agrees with
the last step, and shrinks when the gradient changes sign: hypergradient descent (Baydin et al. 2018,
arXiv:1703.04782, eq. 5) with normalised steps, similar to delta-bar-delta (Jacobs 1988). The number of steps grows with
the logarithm of the distance.
"""

import math

import torch
from torch import Tensor

FIRST = 0.9  # decay of the mean gradient
# Decay of the mean squared gradient, for exact and noisy gradients: with slower decay the first, huge gradients
# count for too long.
EXACT_SECOND, NOISY_SECOND = 0.9, 0.99
PLAIN_SECOND, PLAIN_EPSILON = 0.999, 1e-8  # as in Adam
GROW, SHRINK = 0.1, 0.2  # change of the log gain at full agreement and disagreement, for exact gradients
NOISY = 0.07  # change in both directions for noisy gradients, so that the effects of noise cancel
LARGEST = 60.0  # absolute log gain
BACK = math.log(10)  # decrease of the log gain after a step to a density that is not finite


class AdaptiveAdam:
    """Steps that minimise a function, computed from its gradients.

    ``units``, of the shape of the parameters (dim,) or (fit, dim), is the size of the first step relative to the
    learning rate, or 0 for parameters that take plain Adam steps. ``noisy`` says whether gradients are random.
    """

    def __init__(self, units: Tensor, *, noisy: bool) -> None:
        self.adapted = units > 0
        self.gain = torch.where(self.adapted, units, 1.0).log()
        self.memory = torch.where(self.adapted, NOISY_SECOND if noisy else EXACT_SECOND, PLAIN_SECOND).to(units)
        tiny = torch.finfo(units.dtype).tiny ** 0.5
        self.epsilon = torch.where(self.adapted, tiny, PLAIN_EPSILON).to(units)
        self.fresh = 1 - self.memory
        self.first, self.second = torch.zeros_like(units), torch.zeros_like(units)
        self.any_adapted = bool(self.adapted.any())
        self.noisy = noisy
        self.grow, self.shrink = (NOISY, NOISY) if noisy else (GROW, SHRINK)
        self.steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float, share: float = 1.0) -> Tensor:
        """The step for a ``gradient`` of the loss; elements of the gradient that are not finite count as zero.

        The learning rate is ``rate * share``. Gains grow less as ``share`` falls along a schedule, since they would
        otherwise compensate for the fall. With noisy gradients they also shrink less: noise would lower them otherwise.
        """
        gradient = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        before = 1 - FIRST ** max(self.steps, 1)
        self.steps += 1
        self.second.mul_(self.memory).addcmul_(self.fresh, gradient.square())
        size = (self.second / self._bias()).sqrt_().add_(self.epsilon)
        if self.any_adapted:
            agreement = (gradient / size).clamp_(-1, 1).mul_((self.first / size).div_(before).clamp_(-1, 1))
            shrink = self.shrink * share if self.noisy else self.shrink
            # max(a, 0) grows and min(a, 0) shrinks, in proportion to the agreement a.
            change = agreement.clamp(min=0).mul_(self.grow * share).add_(agreement.clamp_(max=0), alpha=shrink)
            self.gain = torch.where(self.adapted, change.add_(self.gain).clamp_(-LARGEST, LARGEST), 0.0)
        self.first.mul_(FIRST).add_(gradient, alpha=1 - FIRST)
        step = self.first / size
        if self.any_adapted:
            step.mul_(self.gain.exp())
        return step.mul_(-rate * share / (1 - FIRST**self.steps))

    def _bias(self) -> Tensor:
        """1 - memory**steps, without a power of each element."""
        second = NOISY_SECOND if self.noisy else EXACT_SECOND
        return torch.where(self.adapted, 1 - second**self.steps, 1 - PLAIN_SECOND**self.steps).to(self.second)

    @torch.no_grad()
    def back_off(self, fits: Tensor | None = None) -> None:
        """Reset the direction and take smaller steps, for all fits or those where ``fits`` (fit,) is true."""
        where = torch.ones_like(self.adapted) if fits is None else fits[:, None].expand_as(self.adapted)
        self.first = torch.where(where, 0.0, self.first)
        self.gain = torch.where(where & self.adapted, self.gain - BACK, self.gain)
