"""How well a generator meets clusters whose centres are known: are all there, evenly, and as wide as they should be?"""

import math
from collections.abc import Mapping

import torch
from scipy import stats
from torch import Tensor

from posterity.data import Clusters

NEAR = 3.0  # standard deviations: what is within is of high quality (Srivastava et al. 2017)


def cluster_quality(samples: Tensor, clusters: Clusters) -> Mapping[str, float]:
    """Of samples (N, D), in the measures of Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN):

    - ``modes``: how many clusters have a sample within 3 sd of their centre;
    - ``high_quality``: the share of samples within 3 sd of some centre; a perfect sampler of two dimensions has 0.989;
    - ``reverse_kl``: of the shares of the nearest clusters to even ones, in nats; a perfect sampler's is about
      ``reverse_kl_floor``, (M - 1)/(2 N), because samples are finite;
    - ``sd_ratio``: the sd of high-quality samples around their own mean in each cluster over what it should be within
      3 sd; below one a generator collapses within the modes.

    Raises ``ValueError`` for samples of another shape or with values that are not finite.

    >>> from posterity.data import ring
    >>> cluster_quality(ring().sample(2500, seed=0), ring())["modes"]
    8.0
    """
    if not isinstance(clusters, Clusters):
        raise ValueError(f"expected clusters, such as posterity.data.ring(), got {type(clusters).__name__}")
    if not isinstance(samples, Tensor) or samples.ndim != 2 or not len(samples) or samples.is_complex():
        got = f"{samples.dtype} of shape {tuple(samples.shape)}" if isinstance(samples, Tensor) else repr(samples)
        raise ValueError(f"expected finite samples of shape (N, D), at least one, got {got}")
    if not bool(torch.isfinite(samples).all()):
        wrong = int((~torch.isfinite(samples)).sum())
        raise ValueError(f"expected finite samples of shape (N, D), got {wrong} values that are not finite")
    samples = samples.double()  # squares of float32 numbers below 1e-19 underflow
    which, away = clusters.nearest(samples)
    near, count = away <= NEAR, len(clusters.centres)
    share = torch.bincount(which, minlength=count).double() / len(samples)
    return {
        "modes": float(which[near].unique().numel()),
        "high_quality": float(near.double().mean()),
        "reverse_kl": float(torch.special.xlogy(share, share * count).sum()),
        "reverse_kl_floor": (count - 1) / (2 * len(samples)),
        "sd_ratio": _sd_ratio(samples[near], which[near], clusters),
    }


def _sd_ratio(samples: Tensor, which: Tensor, clusters: Clusters) -> float:
    """nan where no cluster has two samples."""
    targets, count = samples.shape[1], len(clusters.centres)
    number = torch.bincount(which, minlength=count).double()
    total = torch.zeros(count, targets, dtype=torch.double, device=samples.device).index_add_(0, which, samples)
    mean = total / number.clamp_min(1)[:, None]
    squares = ((samples - mean[which]) ** 2).sum()
    degrees = float((number - 1).clamp_min(0).sum()) * targets
    # The variance of a normal that is cut off at 3 sd, over that of all of it.
    cut = stats.chi2.cdf(NEAR**2, targets + 2) / stats.chi2.cdf(NEAR**2, targets)
    return math.sqrt(float(squares) / degrees / cut) / clusters.sd if degrees else math.nan
