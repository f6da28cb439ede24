"""Histograms of generated samples: `separation_power` is their distance, `histogram_pulls` judges their uncertainty."""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_number, shown_shape


@dataclass(frozen=True)
class Separation:
    """Result of `separation_power`.

    Attributes:
        power: from 0 for equal histograms to 1 for ones without a common bin. A sample that lies beyond the reference
            shares its last bin, and reaches (K - 1) / (K + 1) for K bins: compare powers with equally many bins.
        floor: mean of the power for two samples of these sizes from the reference distribution.
        bins: number of bins.
    """

    power: float
    floor: float
    bins: int


def separation_power(sample: Tensor, reference: Tensor, *, bins: int = 50) -> Separation:
    r"""Separation of two samples (N,) and (M,), $\frac12 \sum_k (p_k - q_k)^2 / (p_k + q_k)$ for shares p and q.

    The triangular discrimination of two histograms, called separation power in particle physics (Diefenbacher et al.
    2020, arXiv:2009.03796; Krause et al. 2024, CaloChallenge, arXiv:2410.21611). The bins hold equally many values of
    the reference, and the first and last bin are unbounded, so that the result does not depend on units or on single
    far values. A value that occurs often, such as zero, gets a bin of its own.

    For equal distributions the mean is (K - 1) / 4 (1 / N + 1 / M) for K bins, the ``floor``; with fewer than about
    five values in a bin it is less.

    Raises:
        ValueError: samples of another shape, with NaN or infinity, with fewer than 5 ``bins`` values, or fewer than 2
            bins.

    >>> import torch
    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 10_000, generator=random)
    >>> separation_power(x, y).power < 0.006, round(separation_power(x + 100, y).power, 3)
    (True, 0.961)
    """
    check_integer("bins", bins, 2)
    for name, values in (("sample", sample), ("reference", reference)):
        check_floating(name, values)
        if values.ndim != 1 or len(values) < 5 * bins:
            raise ValueError(f"expected {name} of shape (N,), N of {5 * bins} or more, got {shown_shape(values)}")
        check_finite(name, values)
    sample, reference = _of_one_dtype(sample, reference)
    edges = _edges(reference.double().sort().values, bins)
    p, q = (_shares(values.double(), edges) for values in (sample, reference))
    filled = (p + q) > 0
    power = float(((p - q).square() / (p + q).where(filled, torch.ones_like(p)))[filled].sum() / 2)
    used = int(filled.sum())
    return Separation(power, (used - 1) / 4 * (1 / len(sample) + 1 / len(reference)), used)


@dataclass(frozen=True)
class HistogramPulls:
    """Result of `histogram_pulls`.

    Attributes:
        pulls: (share of the ensemble - share of the reference) / expected error, for each bin, (K,).
        share: mean over the members, (K,); ``reference``: of the reference, (K,).
        error: expected standard deviation of their difference, (K,).
        spread: standard deviation between members beyond that of their finite samples, over the standard deviation
            sqrt(p (1 - p)) of a single sample: one number for all bins.
    """

    pulls: Tensor
    share: Tensor
    reference: Tensor
    error: Tensor
    spread: float


def histogram_pulls(samples: Tensor, reference: Tensor, *, bins: int = 10, factor: float = 1.0) -> HistogramPulls:
    r"""Pulls of the bins of a histogram: does the spread of M generators explain their error?

    The bins hold equally many values of the reference. The members scatter around their mean with the variance $\tau^2
    p (1 - p)$ in a bin of share p, where $\tau^2$ is estimated from all bins together. If the reference is one more
    draw from the same distribution, the variance of the difference is $\tau^2 (1 + 1/M) p (1 - p)$ plus the variance
    of the finite samples, and the pulls have a standard deviation of 1. With few members, tau is uncertain and the
    pulls have wider tails: use at least 5. An error that is common to all members makes the pulls wider.

    Args:
        samples: of one observable from each member, (M, n).
        reference: real values, (N,).
        bins: K, at most; fewer if single values occur often.
        factor: multiplies tau, for example by a value that made the pulls of other, held-out samples 1 wide.

    Raises:
        ValueError: fewer than 2 members or bins, samples of another shape, NaN or infinity, fewer than 5 values for a
            bin, or a factor that is not above 0.

    >>> import torch
    >>> random = torch.Generator().manual_seed(0)
    >>> members = torch.randn(8, 5000, generator=random) + 0.1 * torch.randn(8, 1, generator=random)
    >>> found = histogram_pulls(members, torch.randn(5000, generator=random))
    >>> found.pulls.shape
    torch.Size([10])
    """
    check_integer("bins", bins, 2)
    check_number("factor", factor, "(0, inf)")
    for name, values, dimensions in (("samples", samples, 2), ("reference", reference, 1)):
        check_floating(name, values)
        if values.ndim != dimensions or values.shape[-1] < 5 * bins:
            wanted = "(M, n), n" if dimensions == 2 else "(N,), N"
            raise ValueError(f"expected {name} of shape {wanted} at least {5 * bins}, got {shown_shape(values)}")
        check_finite(name, values)
    if len(samples) < 2:
        raise ValueError("expected samples of at least 2 members, got 1")
    samples, reference = _of_one_dtype(samples, reference)
    edges = _edges(reference.double().sort().values, bins)
    q = _shares(reference.double(), edges)
    each = torch.stack([_shares(member.double(), edges) for member in samples])
    members, n = samples.shape
    p = each.mean(0)
    unit = ((p + q) / 2 * (1 - (p + q) / 2)).clamp_min(1 / (4 * n))
    tau = max(0.0, float((each.var(0) / unit).mean()) - 1 / n)
    variance = unit * (factor**2 * tau * (1 + 1 / members) + 1 / (members * n) + 1 / len(reference))
    error = variance.sqrt()
    return HistogramPulls((p - q) / error, p, q, error, tau**0.5)


def _of_one_dtype(sample: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the smaller dtype: equal values must remain equal."""
    smaller = min(sample.dtype, reference.dtype, key=lambda dtype: torch.finfo(dtype).bits)
    return sample.to(smaller), reference.to(smaller)


def _edges(ordered: Tensor, bins: int) -> Tensor:
    """Edges between ``bins`` equal parts of ordered values; one that occurs often gets a bin of its own."""
    edges, times = ordered[(torch.arange(1, bins) * len(ordered)) // bins].unique(return_counts=True)
    often = edges[times > 1]
    return torch.cat([edges, often.nextafter(torch.full_like(often, torch.inf))]).unique()


def _shares(values: Tensor, edges: Tensor) -> Tensor:
    counts = torch.bincount(
        torch.searchsorted(edges, values.contiguous(), right=True), minlength=len(edges) + 1
    ).double()
    return counts / len(values)
