"""`separation_power`: the distance of two one-dimensional samples by their histograms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, shown_shape


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
    if sample.dtype != reference.dtype:  # equal values must remain equal
        smaller = min(sample.dtype, reference.dtype, key=lambda dtype: torch.finfo(dtype).bits)
        sample, reference = sample.to(smaller), reference.to(smaller)
    ordered = reference.double().sort().values
    edges, times = ordered[(torch.arange(1, bins) * len(ordered)) // bins].unique(return_counts=True)
    often = edges[times > 1]
    edges = torch.cat([edges, often.nextafter(torch.full_like(often, torch.inf))]).unique()
    counts = [
        torch.bincount(torch.searchsorted(edges, values.double(), right=True), minlength=len(edges) + 1).double()
        for values in (sample, reference)
    ]
    p, q = (count / count.sum() for count in counts)
    filled = (p + q) > 0
    power = float(((p - q).square() / (p + q).where(filled, torch.ones_like(p)))[filled].sum() / 2)
    used = int(filled.sum())
    return Separation(power, (used - 1) / 4 * (1 / len(sample) + 1 / len(reference)), used)
