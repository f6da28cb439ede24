"""`cluster_quality`: are all clusters present, equally frequent, and as wide as they should be?"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from posterity.data import Clusters
from posterity.validation import shown

NEAR = 3.0  # standard deviations within which a sample has high quality (Srivastava et al. 2017)


def cluster_quality(samples: Tensor, clusters: Clusters) -> Mapping[str, float]:
    """Metrics of samples (N, D) from M clusters with known centres.

    From Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN):

    - ``modes``: number of clusters with a sample within 3 sd of their centre.
    - ``high_quality``: share of samples within 3 sd of a centre; 0.989 for a perfect sampler in two dimensions.
    - ``reverse_kl``: divergence of the shares of the nearest clusters from equal ones, in nats. A perfect sampler has
      about ``reverse_kl_floor``, (M - 1)/(2 N), because N is finite.
    - ``sd_ratio``: sd of high-quality samples around their mean in each cluster, over the sd that is expected within
      3 sd. Below one, the generator collapses within clusters. NaN if no cluster has two samples.

    Raises:
        ValueError: Samples of another shape, or with NaN or infinity.

    >>> from posterity.data import ring
    >>> cluster_quality(ring().sample(2500, seed=0), ring())["modes"]
    8.0
    """
    check_clusters(clusters)
    if not isinstance(samples, Tensor) or samples.ndim != 2 or not len(samples) or samples.is_complex():
        raise ValueError(f"expected real samples of shape (N, D), N of 1 or more, got {shown(samples)}")
    wrong = int((~torch.isfinite(samples)).sum())
    if wrong:
        raise ValueError(f"expected finite samples, got {wrong} of {samples.numel()} that are nan or infinite")
    samples = samples.double()  # squares of float32 numbers below 1e-19 underflow
    nearest, distance = clusters.nearest(samples)
    near, count = distance <= NEAR, len(clusters.centres)
    share = torch.bincount(nearest, minlength=count).double() / len(samples)
    return {
        "modes": float(nearest[near].unique().numel()),
        "high_quality": float(near.double().mean()),
        "reverse_kl": float(torch.special.xlogy(share, share * count).sum()),
        "reverse_kl_floor": (count - 1) / (2 * len(samples)),
        "sd_ratio": _sd_ratio(samples[near], nearest[near], clusters),
    }


def check_clusters(clusters: Any) -> None:
    """Raises ``ValueError`` unless ``clusters`` is a `posterity.data.Clusters`."""
    if not isinstance(clusters, Clusters):
        raise ValueError(f"expected clusters such as posterity.data.ring(), got {shown(clusters)}")


def _sd_ratio(samples: Tensor, nearest: Tensor, clusters: Clusters) -> float:
    """Observed over expected sd; NaN if no cluster has two samples."""
    targets, count = samples.shape[1], len(clusters.centres)
    number = torch.bincount(nearest, minlength=count).double()
    total = torch.zeros(count, targets, dtype=torch.double, device=samples.device).index_add_(0, nearest, samples)
    mean = total / number.clamp_min(1)[:, None]
    squares = ((samples - mean[nearest]) ** 2).sum()
    degrees = float((number - 1).clamp_min(0).sum()) * targets
    # Variance of a normal distribution that is truncated at 3 sd, over that of the whole distribution.
    truncated = stats.chi2.cdf(NEAR**2, targets + 2) / stats.chi2.cdf(NEAR**2, targets)
    return math.sqrt(float(squares) / degrees / truncated) / clusters.sd if degrees else math.nan
