"""How many different samples does a generator have? The birthday paradox: count those that come twice.

Among s draws from n equally likely values, s(s-1)/(2n) pairs are expected to be equal, so that pairs tell n. Arora &
Zhang 2017 (arXiv:1706.08224; with theory Arora, Risteski & Zhang 2018) take the nearest pairs of a batch and let a
person say which of them show the same. Here "the same" is nearer than a radius, and what can be said is less:

- Continuous samples are never equal, and any radius has pairs within it. The radius is therefore set where real samples
  have few, and real samples that had no part in it are counted beside the generated.
- The result is 1 over the probability that two draws collide: the number of equally likely values that would collide as
  often. There are more if they are not equally likely, or if some are within the radius of each other: about 1 in
  ``pair_ratio`` more, if the values themselves are spread as the real ones.
- A perfect generator is not infinite, it is as large as the real samples: more cannot be seen with s draws.
"""

import math
from dataclasses import dataclass

import torch
from scipy.special import gammaincinv
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import TIES, checked, square_blocks
from posterity.validation import check_number


@dataclass(frozen=True)
class Support:
    """``size`` with its interval from ``low`` to ``high``, and what it is from.

    ``pairs`` of the generated samples and ``real_pairs`` of the held-out ones are within ``radius``; ``pair_ratio`` is
    the share of pairs that are, generated over real: 1 for a perfect generator, more for one that repeats itself.
    ``real_size`` is the size of the held-out samples in the same way, which a perfect generator has.
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
) -> Support:
    """The number of different values among generated ``samples`` (S, D), from the pairs nearer than a radius.

    The radius is that within which S real samples are expected to have ``expected_pairs`` pairs, found with
    ``calibration`` (C, D). ``held_out`` (H, D) are real samples that are not in it, best as many as S. With fewer
    expected pairs the radius is smaller and larger sizes can be told from the real one, which is about S²/2 over
    ``expected_pairs``; but chance then moves the count of real pairs, and with it ``pair_ratio``, by more.

    ``size`` = S(S-1)/2 / pairs, infinite where there are none; then ``high`` is infinite too, and ``low`` says what is
    excluded. The interval of ``level`` is Garwood's for a Poisson count. For equally likely values pairs are
    uncorrelated and it holds; for others pairs that share a sample come together, and it is wider by their part of the
    variance of a U-statistic (Hoeffding 1948), estimated from how many collisions each sample has.

    Takes (S² + H² + C²) D operations, and memory for `BLOCK` pairs beside the samples in float64.
    Raises ``ValueError`` for too few calibration samples to find the radius, expected pairs that are not above 0 and
    below S(S-1)/2, a level not between 0 and 1, samples of different D, fewer than 2 rows or values that are not
    finite.

    >>> random = torch.Generator().manual_seed(0)
    >>> real, other, few = torch.randn(3, 400, 8, generator=random)
    >>> found = support_size(few[torch.randint(50, (400,), generator=random)], real, other)  # only 50 of them
    >>> found.low < 50 < found.high, found.pair_ratio > 20
    (True, True)
    """
    samples, held_out, calibration = checked(samples=samples, held_out=held_out, calibration=calibration)
    possible, of_real = math.comb(len(samples), 2), math.comb(len(held_out), 2)
    check_number("expected_pairs", expected_pairs, f"(0, {possible})")
    check_number("level", level, "(0, 1)")
    rank = int(expected_pairs * math.comb(len(calibration), 2) / possible)  # exact where the counts are equal
    if not rank:
        least = math.ceil(math.sqrt(2 * possible / expected_pairs)) + 1
        raise ValueError(f"expected about {least} calibration samples or more, got {len(calibration)}")
    square = _smallest(calibration, rank)
    pairs, shared = _collisions(samples, square)
    real_pairs, _ = _collisions(held_out, square)
    rates = pairs / possible, real_pairs / of_real
    least_pairs, most_pairs = _interval(pairs, shared, len(samples), level)
    return Support(
        size=_over(possible, pairs),
        low=max(1.0, possible / most_pairs),
        high=_over(possible, least_pairs),
        pairs=pairs,
        radius=math.sqrt(square),
        real_size=_over(of_real, real_pairs),
        real_pairs=real_pairs,
        pair_ratio=_over(*rates) if any(rates) else math.nan,
    )


def _over(a: float, b: float) -> float:
    return a / b if b else math.inf


def _smallest(sample: Tensor, rank: int) -> float:
    """The squared distance that is the ``rank``-th smallest of all pairs."""
    best = sample.new_empty(0)
    for _, square in square_blocks(sample):
        twice = torch.ones_like(square, dtype=torch.bool).tril_()
        best = torch.cat([best, square.masked_fill_(twice, math.inf).flatten()])
        best = best.topk(min(rank, len(best)), largest=False).values
    return float(best.max())


def _collisions(sample: Tensor, square: float) -> tuple[int, int]:
    """Pairs within the squared distance; ordered pairs of those that share a sample."""
    number_of = torch.cat([(block <= square * TIES).sum(1) - 1 for _, block in square_blocks(sample, sample)])
    return int(number_of.sum()) // 2, int((number_of * (number_of - 1)).sum())


def _interval(pairs: int, shared: int, draws: int, level: float) -> tuple[float, float]:
    """Of the expected number of pairs."""
    # Var pairs = pairs + s(s-1)(s-2) (P(two others collide with one) - P(collide)²); both parts are 0 or more.
    independent = draws * (draws - 1) * (draws - 2) * (pairs / math.comb(draws, 2)) ** 2
    spread = 1 + max(0.0, shared - independent) / pairs if pairs else 1.0
    tail = (1 - level) / 2
    low = float(spread * gammaincinv(pairs / spread, tail)) if pairs else 0.0
    return low, float(spread * gammaincinv(pairs / spread + 1, 1 - tail))
