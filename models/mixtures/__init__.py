"""Mixtures of one family, and the heads that make them from a network's features.

- `mixture`: `Mixture`, a distribution with everything below as its methods.
- `heads`: `mixture_head` for one target, counts or angles; `multivariate_mixture_head` for several targets.
- `moments`: means, variances and covariances; `circular`: the same of angles.
- `quantiles`: the inverse of the distribution function; `nodes`: where to look at a density.
- `modes`: its local maxima; `regions`: highest-density regions, as unions of intervals.
- `subspace`: marginal and conditional mixtures of several targets.
- `pathwise`: gradients of samples; `protocol`: what these ask of a mixture.
"""

from posterity.models.mixtures.heads import (
    MixtureHead,
    MultivariateMixtureHead,
    mixture_head,
    multivariate_mixture_head,
)
from posterity.models.mixtures.mixture import Mixture
from posterity.models.mixtures.modes import Modes
from posterity.models.mixtures.regions import Regions

__all__ = [
    "Mixture",
    "MixtureHead",
    "Modes",
    "MultivariateMixtureHead",
    "Regions",
    "mixture_head",
    "multivariate_mixture_head",
]
