"""`support_size`: the number of distinct samples of a generator, from the birthday paradox.

Among s draws from n equally likely values, s(s-1)/(2n) pairs are expected to be equal, so the number of equal pairs
estimates n. Arora & Zhang 2017 (arXiv:1706.08224; theory by Arora, Risteski & Zhang 2018) let a person decide which of
the nearest pairs of a batch show the same object. Here two samples count as equal if they are nearer than a radius,
which limits the conclusions:

- Continuous samples are never equal, and any radius has pairs within it. The radius is therefore set so that real
  samples have few such pairs, and the pairs of real samples that did not set the radius are counted as well.
- The result is 1 over the probability that two draws collide, which is the number of equally likely values with the
  same number of collisions. The true number of values is larger if they are not equally likely, or if some are within
  the radius of each other: by a share of about 1 / ``pair_ratio`` if the values are distributed as real samples.
- For a perfect generator the result is not infinite but that of real samples: s draws cannot show more.
"""

import math
from dataclasses import dataclass

import torch
from scipy.special import gammaincinv
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import TIES, check_samples, squared_distance_chunks
from posterity.validation import check_number


@dataclass(frozen=True)
class SupportSize:
    """Estimated number of distinct samples, with its confidence interval and the counts that it comes from.

    Attributes:
        size: Estimate for the generated samples; infinite if no pair is within the radius.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        pairs: Pairs of generated samples within the radius.
        radius: Distance below which two samples count as equal.
        real_size: Estimate for the held-out samples, which a perfect generator reaches.
        real_pairs: Pairs of held-out samples within the radius.
        pair_ratio: Frequency of such pairs, generated over held-out: 1 for a perfect generator, above 1 for one that
            repeats itself.
    """

    size: float
    low: float
    high: float
    pairs: int
    radius: float
    real_size: float
    real_pairs: int
    pair_ratio: float


def support_size(
    samples: Tensor, held_out: Tensor, calibration: Tensor, *, expected_pairs: float = 10.0, level: float = 0.95
) -> SupportSize:
    """Number of distinct values among generated ``samples`` (S, D), from the pairs within a radius.

    The estimate is S(S-1)/2 over the number of pairs. Without pairs, ``size`` and ``high`` are infinite, and ``low`` is
    the smallest size that is not excluded. The interval is that of Garwood for a Poisson count. It is exact for equally
    likely values, whose pairs are uncorrelated. Otherwise pairs that share a sample are correlated; the interval is
    then widened by their part of the variance of a U-statistic (Hoeffding 1948), estimated from the collisions of each
    sample.

    The cost is (S² + H² + C²) D operations, and memory for 2^20 pairs beside the samples in float64.

    Args:
        samples: Generated samples (S, D).
        held_out: Real samples (H, D) that are not in ``calibration``; H = S is best.
        calibration: Real samples (C, D) that set the radius.
        expected_pairs: Expected number of pairs within the radius among S real samples. With fewer, the radius is
            smaller and larger sizes can be told from the real one, which is about S²/2 / ``expected_pairs``; but the
            number of real pairs, and with it ``pair_ratio``, varies more by chance.
        level: Confidence level of the interval.

    Raises:
        ValueError: Too few calibration samples to set the radius, ``expected_pairs`` outside (0, S(S-1)/2), ``level``
            outside (0, 1), samples of different D, of fewer than 2 rows, or with NaN or infinity.

    >>> random = torch.Generator().manual_seed(0)
    >>> real, other, few = torch.randn(3, 400, 8, generator=random)
    >>> support = support_size(few[torch.randint(50, (400,), generator=random)], real, other)  # 50 distinct values
    >>> support.low < 50 < support.high, support.pair_ratio > 20
    (True, True)
    """
    samples, held_out, calibration = check_samples(samples=samples, held_out=held_out, calibration=calibration)
    possible, possible_real = math.comb(len(samples), 2), math.comb(len(held_out), 2)
    check_number("expected_pairs", expected_pairs, f"(0, {possible})")
    check_number("level", level, "(0, 1)")
    rank = int(expected_pairs * math.comb(len(calibration), 2) / possible)  # exact if the counts are equal
    if not rank:
        needed = math.ceil(math.sqrt(2 * possible / expected_pairs)) + 1
        raise ValueError(f"expected about {needed} calibration samples or more, got {len(calibration)}")
    square = _smallest(calibration, rank)
    pairs, shared = _collisions(samples, square)
    real_pairs, _ = _collisions(held_out, square)
    rates = pairs / possible, real_pairs / possible_real
    least_pairs, most_pairs = _interval(pairs, shared, len(samples), level)
    return SupportSize(
        size=_ratio(possible, pairs),
        low=max(1.0, possible / most_pairs),
        high=_ratio(possible, least_pairs),
        pairs=pairs,
        radius=math.sqrt(square),
        real_size=_ratio(possible_real, real_pairs),
        real_pairs=real_pairs,
        pair_ratio=_ratio(*rates) if any(rates) else math.nan,
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf


def _smallest(sample: Tensor, rank: int) -> float:
    """The ``rank``-th smallest squared distance of all pairs."""
    best = sample.new_empty(0)
    for _, square in squared_distance_chunks(sample):
        twice = torch.ones_like(square, dtype=torch.bool).tril_()
        best = torch.cat([best, square.masked_fill_(twice, math.inf).flatten()])
        best = best.topk(min(rank, len(best)), largest=False).values
    return float(best.max())


def _collisions(sample: Tensor, square: float) -> tuple[int, int]:
    """Number of pairs within the squared distance, and number of ordered pairs of such pairs that share a sample."""
    degrees = torch.cat(
        [(chunk <= square * TIES).sum(1) - 1 for _, chunk in squared_distance_chunks(sample, sample)]
    )  # fmt: skip
    return int(degrees.sum()) // 2, int((degrees * (degrees - 1)).sum())


def _interval(pairs: int, shared: int, draws: int, level: float) -> tuple[float, float]:
    """Confidence interval of the expected number of pairs."""
    # Var(pairs) = pairs + s(s-1)(s-2) (P(two others collide with one) - P(collide)²); neither part is negative.
    independent = draws * (draws - 1) * (draws - 2) * (pairs / math.comb(draws, 2)) ** 2
    dispersion = 1 + max(0.0, shared - independent) / pairs if pairs else 1.0
    tail = (1 - level) / 2
    low = float(dispersion * gammaincinv(pairs / dispersion, tail)) if pairs else 0.0
    return low, float(dispersion * gammaincinv(pairs / dispersion + 1, 1 - tail))
