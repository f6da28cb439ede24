"""What warm-up learns: step size, mass, trajectory length, from all chains at once.

Chains of a network sit in different permutation modes: the weights of one chain, permuted, are those of another.
Means and variances *across* chains then measure how far the modes are apart, not how wide one is, so everything here
uses moments within chains, of squared deviations from each chain's own mean, and their median over the chains: a
chain that has not arrived yet does not count.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class StepSize:
    """Dual averaging of the log step size (Nesterov 2009; Hoffman & Gelman 2014, eqs. 6 and 7).

    The mean acceptance over many chains has little noise, and falls like a cliff where the step becomes unstable: the
    gain 1 / gamma is a fifth of the usual one, and a restart begins at the step size itself, not at twice as much.
    """

    target: float
    log_step: float
    gamma: float = 0.25
    offset: float = 10.0
    kappa: float = 0.75
    count: int = 0
    error: float = 0.0
    log_mean: float = 0.0
    shrink: float = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """From the current step size anew, as after a change of the mass."""
        self.shrink, self.count, self.error, self.log_mean = self.log_step, 0, 0.0, 0.0

    def update(self, acceptance: float) -> None:
        self.count += 1
        weight = 1 / (self.count + self.offset)
        self.error = (1 - weight) * self.error + weight * (self.target - acceptance)
        self.log_step = self.shrink - self.error * math.sqrt(self.count) / self.gamma
        decay = self.count**-self.kappa
        self.log_mean = decay * self.log_step + (1 - decay) * self.log_mean

    def finish(self) -> None:
        """The average over the iterations since the last restart is the step size to keep."""
        if self.count:
            self.log_step = self.log_mean

    @property
    def value(self) -> float:
        return math.exp(self.log_step)


class Moments:
    """Running moments of positions within each chain (Welford 1962), and of gradients over all of them."""

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean, self.squares, self.gradients = (torch.zeros_like(like) for _ in range(3))

    def update(self, q: Tensor, grad: Tensor) -> None:
        self.count += 1
        delta = q - self.mean
        self.mean = self.mean + delta / self.count
        self.squares = self.squares + delta * (q - self.mean)
        self.gradients = self.gradients + grad**2

    def inverse_mass(self, pooling: str) -> Tensor:
        """sqrt(variance of positions / variance of gradients), for each coordinate.

        Of a normal distribution with independent coordinates it is the variance. Where coordinates are correlated the
        marginal variance is too long, and the inverse of the gradient's, the conditional variance, too short; their
        geometric mean makes the Fisher divergence from the standard normal smallest (Seyboldt, Carlson & Carpenter
        2026, arXiv:2603.18845). The gradient's mean is zero, so that chains in other modes agree about it.
        """
        weight = self.count * len(self.mean)
        # The typical chain: one that is still far away has gradients that would drown all others.
        energy = (self.gradients / max(1, self.count)).median(0).values.clamp_min(1e-30)
        logarithm = (self.variance(pooling) / energy).log() / 2
        # Towards their common size, as if by five draws more: a few draws do not know a variance.
        return ((weight * logarithm + 5 * logarithm.mean()) / (weight + 5)).exp()

    def variance(self, pooling: str) -> Tensor:
        """One variance for each coordinate.

        ``pooling`` "within" takes deviations from each chain's own mean; "across" from the mean of all chains.
        """
        chains = len(self.mean)
        if pooling == "across":
            centre = self.mean.mean(0)
            total = self.squares.sum(0) + self.count * ((self.mean - centre) ** 2).sum(0)
            degrees = max(1, self.count * chains - 1)
        else:
            return (self.squares / max(1, self.count - 1)).median(0).values.clamp_min(1e-30)
        return (total / degrees).clamp_min(1e-30)


class TrajectoryLength:
    """ChEES: the trajectory length that changes the distance from the centre most (Hoffman, Radul & Sountsov 2021).

    The gradient of the criterion is ascended by Adam on the log length. Positions are measured in units of the mass,
    from ``centre``: each chain's own running mean, or in "across" pooling, as in the paper, the mean of all chains.
    The criterion is divided by the length (Sountsov & Hoffman 2021): twice the steps have to move twice as far.
    """

    def __init__(self, length: float, rate: float = 0.05) -> None:
        self.log_length, self.rate = math.log(length), rate
        self.first = self.second = 0.0
        self.count, self.longest = 0, math.inf

    def update(
        self,
        before: Tensor,
        after: Tensor,
        momentum: Tensor,
        centre: Tensor,
        inverse_mass: Tensor,
        acceptance: Tensor,
        fraction: float,
        left: Tensor | None = None,
    ) -> None:
        """Learn from one trajectory of ``fraction`` of the length; ``acceptance`` (chain,) weighs the chains.

        ``left`` (chain, dim) is given if a trajectory left the support at a hard edge: its last position inside, for
        chains that left in the second half, and nan for others. A longer trajectory loses more of these chains: about
        their share / log 2 per unit of log length. If all chains left, the length is halved.
        """
        scale = inverse_mass.rsqrt()
        a, b = (before - centre) * scale, (after - centre) * scale
        speed = momentum * inverse_mass * scale
        change = (b**2).sum(-1) - (a**2).sum(-1)
        slope = change * (b * speed).sum(-1)
        weights = torch.where(torch.isfinite(slope) & torch.isfinite(change), acceptance, 0.0).double()
        slope, change = (torch.where(weights > 0, x.double(), 0.0) for x in (slope, change))
        total = float((weights * change**2).sum())
        loss = 0.0
        if left is not None:
            c = (left - centre) * scale
            loss = float((((c**2).sum(-1) - (a**2).sum(-1)).double() ** 2).nansum()) / math.log(2)
            if not total > 0:
                self.log_length -= math.log(2)
        if not total > 0:
            return
        # d log(criterion / length) / d log(length), the criterion being the mean of change² / 4.
        gradient = 4 * fraction * math.exp(self.log_length) * float((weights * slope).sum()) / total - 1
        gradient -= loss / total
        gradient = max(-10.0, min(10.0, gradient))
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.95 * self.second + 0.05 * gradient**2
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.95**self.count)
        self.log_length += self.rate * first / (math.sqrt(second) + 1e-8)
        self.log_length = min(self.log_length, math.log(self.longest))

    @property
    def value(self) -> float:
        return math.exp(self.log_length)


def windows(warmup: int) -> tuple[int, list[int]]:
    """When the mass is learnt: the first iteration that counts, and the iterations after which it is renewed.

    A first part for the way to the typical set and a last one for the step size alone, an eighth of warm-up each;
    between them windows, each about twice as long as the one before it.
    """
    start, end = warmup // 8, warmup - max(1, warmup // 8)
    if warmup < 20:
        return warmup, []
    size, ends, at = max(5, (end - start) // 12), [], start
    while at + 3 * size <= end:
        at += size
        ends.append(at)
        size *= 2
    return start, [*ends, end]


def halton(index: int, base: int = 2) -> float:
    """The Halton sequence at ``index`` from 0: evenly spread in (0, 1), and for coprime bases in the square."""
    result, fraction, i = 0.0, 1.0, index + 1
    while i:
        fraction /= base
        result += fraction * (i % base)
        i //= base
    return result
