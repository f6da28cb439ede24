"""Adaptation of step size, mass and trajectory length in warm-up, from all chains at once.

Chains of a network are in different permutation modes: the weights of one chain are a permutation of those of another.
Moments *across* chains would then measure the distance between modes instead of their width. The moments here are
therefore within chains, of deviations from the mean of each chain, and are combined by their median over the chains,
so that a chain far from the typical set has no effect.
"""

import contextlib
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

TYPICAL = 10.0  # times the median: moments of a chain that is not yet in the typical set


@dataclass
class StepSize:
    """Dual averaging of the log step size (Nesterov 2009; Hoffman & Gelman 2014, eqs. 6 and 7).

    The mean acceptance over many chains has little noise, and it drops steeply where the step becomes unstable. The
    gain 1 / gamma is therefore a fifth of the usual gain, and a restart begins at the current step size.
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
        """Start again from the current step size, as after a change of the mass."""
        self.shrink, self.count, self.error, self.log_mean = self.log_step, 0, 0.0, 0.0

    def update(self, acceptance: float) -> None:
        """Adapt to the mean acceptance of one iteration."""
        self.count += 1
        weight = 1 / (self.count + self.offset)
        self.error = (1 - weight) * self.error + weight * (self.target - acceptance)
        self.log_step = self.shrink - self.error * math.sqrt(self.count) / self.gamma
        decay = self.count**-self.kappa
        self.log_mean = decay * self.log_step + (1 - decay) * self.log_mean

    def finish(self) -> None:
        """Take the average of the log step size since the last restart as the final value."""
        if self.count:
            self.log_step = self.log_mean

    @property
    def value(self) -> float:
        """The step size."""
        return math.exp(self.log_step)


class Moments:
    """Running moments of positions and gradients within each chain (Welford 1962), for positions like ``like``.

    If ``dense``, also their products (chain, dim, dim), of which `covariance` is computed.
    """

    def __init__(self, like: Tensor, dense: bool = False) -> None:
        self.count = 0
        self.mean, self.squares, self.gradients = (torch.zeros_like(like) for _ in range(3))
        self.value = torch.zeros(len(like), dtype=torch.double, device=like.device)  # mean log density
        self.slope: Tensor | None = None  # mean of the gradients, and products of deviations
        self.products: Tensor | None = None
        if dense:
            chains, dim = like.shape
            self.slope = torch.zeros_like(like, dtype=torch.double)
            self.products = torch.zeros(2, chains, dim, dim, dtype=torch.double, device=like.device)

    def update(self, q: Tensor, grad: Tensor, value: Tensor) -> None:
        """Add one position and gradient of every chain (chain, dim), and its log density (chain,)."""
        self.count += 1
        self.value = self.value + (value.double() - self.value) / self.count
        delta = q - self.mean
        self.mean = self.mean + delta / self.count
        self.squares = self.squares + delta * (q - self.mean)
        self.gradients = self.gradients + grad**2
        if self.slope is not None and self.products is not None:
            change = grad.double() - self.slope
            self.slope = self.slope + change / self.count
            after = (q - self.mean, grad.double() - self.slope)
            pairs = zip((delta, change), after, strict=True)
            self.products = self.products + torch.stack([a[:, :, None] * b[:, None] for a, b in pairs])

    def log_mass(self) -> Tensor:
        """Log of the probability around each chain (chain,), up to a constant, as of a normal with its moments."""
        variances = (self.squares / max(1, self.count - 1)).double()
        return self.value + variances.log().sum(-1) / 2

    def covariance(self, pooling: str) -> Tensor | None:
        r"""The inverse mass matrix (dim, dim); None if it cannot be estimated from these moments.

        It is the geometric mean $C \# G^{-1}$ of the covariance $C$ of positions and the inverse of that of gradients,
        which minimises the Fisher divergence from the standard normal (Seyboldt, Carlson & Carpenter 2026). Both are
        of deviations from the means of each chain, or with ``pooling`` "across" from those of all. For a normal density
        it is exact from any dim + 1 draws of one chain, because gradients and positions then deviate in proportion.
        """
        chains, dim = self.mean.shape
        if self.products is None or self.slope is None or self.count * chains < 2 * (dim + chains):
            return None
        products = self.products
        if pooling == "across":
            apart = [mean.double() - mean.double().mean(0) for mean in (self.mean, self.slope)]
            products = products + self.count * torch.stack([a[:, :, None] * a[:, None] for a in apart])
        spread, steepness = products / max(1, self.count - 1)
        sizes = spread.diagonal(dim1=1, dim2=2) * steepness.diagonal(dim1=1, dim2=2)
        sizes = sizes.sqrt().mean(1)
        # Chains far from the typical set, of much larger moments than most, are left out.
        usual = (sizes < TYPICAL * sizes.median()) & torch.isfinite(sizes)
        if not bool(usual.any()):
            return None
        spread, steepness = spread[usual].mean(0), steepness[usual].mean(0)
        scale = (spread.diagonal() / steepness.diagonal()).sqrt().sqrt()
        if not bool(torch.isfinite(scale).all() & (scale > 0).all()):
            return None
        spread, steepness = spread / scale[:, None] / scale, steepness * scale[:, None] * scale
        draws = self.count * int(usual.sum())
        with contextlib.suppress(torch.linalg.LinAlgError):
            log = _logarithm_of_mean(spread, steepness) * draws / (draws + 5 * dim)  # few draws are imprecise
            values, vectors = torch.linalg.eigh(log)
            result = (vectors * values.exp()) @ vectors.T * scale[:, None] * scale
            return result if bool(torch.isfinite(result).all()) else None
        return None

    def inverse_mass(self, pooling: str) -> Tensor:
        r"""The diagonal of the inverse mass matrix (dim,): $\sqrt{\mathrm{Var}[q] / \mathrm{E}[g^2]}$ by coordinate.

        For a normal distribution with independent coordinates it is the variance. For correlated coordinates the
        marginal variance is too large, and the conditional variance, the inverse of $\mathrm{E}[g^2]$, too small; their
        geometric mean minimises the Fisher divergence from the standard normal (Seyboldt, Carlson & Carpenter 2026,
        arXiv:2603.18845). The mean of the gradient is zero, so its second moment needs no mean of each chain.
        """
        weight = self.count * len(self.mean)
        # The median, because the gradients of a chain far from the typical set would dominate a mean.
        energy = (self.gradients / max(1, self.count)).median(0).values.clamp_min(1e-30)
        logarithm = (self.variance(pooling) / energy).log() / 2
        # Few draws give an imprecise variance: its log is shrunk to the mean with the weight of five pseudo-draws.
        return ((weight * logarithm + 5 * logarithm.mean()) / (weight + 5)).exp()

    def variance(self, pooling: str) -> Tensor:
        """The variance of each coordinate (dim,).

        With ``pooling`` "within", the median over chains of the variance about the mean of each chain; with "across",
        the variance about the mean of all chains.
        """
        chains = len(self.mean)
        if pooling == "across":
            centre = self.mean.mean(0)
            total = self.squares.sum(0) + self.count * ((self.mean - centre) ** 2).sum(0)
            return (total / max(1, self.count * chains - 1)).clamp_min(1e-30)
        return (self.squares / max(1, self.count - 1)).median(0).values.clamp_min(1e-30)


def _logarithm_of_mean(spread: Tensor, steepness: Tensor) -> Tensor:
    """The logarithm of the geometric mean of a covariance and the inverse of another, all (dim, dim)."""
    ridge = 1e-9 * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    values, vectors = torch.linalg.eigh(steepness + ridge * steepness.diagonal().mean())
    root = (vectors * values.clamp_min(1e-300).sqrt()) @ vectors.T
    inverse = (vectors * values.clamp_min(1e-300).rsqrt()) @ vectors.T
    middle, turned = torch.linalg.eigh(root @ (spread + ridge * spread.diagonal().mean()) @ root)
    mean = inverse @ (turned * middle.clamp_min(0).sqrt()) @ turned.T @ inverse
    values, vectors = torch.linalg.eigh((mean + mean.T) / 2)
    return (vectors * values.clamp_min(1e-12 * float(values[-1])).log()) @ vectors.T


class TrajectoryLength:
    r"""The trajectory length that maximises the ChEES criterion per unit of length (Hoffman, Radul & Sountsov 2021).

    The criterion is $\frac14 \mathrm{E}[(\|q' - c\|^2 - \|q - c\|^2)^2]$ for a trajectory from $q$ to $q'$, in units of
    the mass. The centre $c$ is the running mean of each chain, or with "across" pooling, as in the paper, the mean of
    all chains. The criterion is divided by the length, because the cost is proportional to it (Sountsov & Hoffman
    2021). Adam ascends its gradient with respect to the log length, with learning rate ``rate``.
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
        """Adapt to one trajectory of every chain.

        A longer trajectory loses more chains at a hard edge of the support: per unit of log length, about the share of
        chains that leave in the second half of the trajectory, divided by log 2. If all chains leave, the length is
        halved.

        Args:
            before: positions at the start of the trajectory (chain, dim).
            after: positions at its end (chain, dim).
            momentum: momenta at its end (chain, dim).
            centre: the centre of the criterion (dim,) or (chain, dim).
            inverse_mass: diagonal of the inverse mass matrix (dim,).
            acceptance: acceptance probabilities (chain,), which weight the chains.
            fraction: length of this trajectory divided by the adapted length.
            left: if a trajectory left the support, the last position inside of chains that left in the second half,
                and nan for other chains (chain, dim).
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
        # d log(criterion / length) / d log(length) for criterion = mean(change**2) / 4.
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
        """The trajectory length."""
        return math.exp(self.log_length)


def windows(warmup: int) -> tuple[int, list[int]]:
    """The first iteration whose draws adapt the mass, and the iterations after which the mass is updated.

    The first eighth of warm-up is for the approach to the typical set, and the last eighth for the step size alone.
    The windows between them double in length.
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
    """Element ``index`` (from 0) of the Halton sequence in (0, 1); coprime bases give a sequence in the unit square."""
    result, fraction, i = 0.0, 1.0, index + 1
    while i:
        fraction /= base
        result += fraction * (i % base)
        i //= base
    return result
