"""Mixtures of one family, and the heads that build them from the features of a network.

- `mixture`: `Mixture`, a distribution with the functions below as methods.
- `heads`: `mixture_head` for one target, counts or angles; `multivariate_mixture_head` for several targets.
- `moments`: means, variances and covariances, circular ones for angles.
- `quantiles`: quantiles by Newton's method; `normal_quantiles`: of many normals, by Halley's.
- `modes`: local maxima of the density; `regions`: highest-density regions, as unions of intervals; `nodes`, `density`:
  the points and the evaluations that both use.
- `subspace`: marginal and conditional mixtures of several targets.
- `crps`: the continuous ranked probability score of mixtures of normals.
- `weights`, `drawing`, `pathwise`: component weights, drawn components, gradients of samples.
- `fused`: densities of large batches; `row_chunks`: evaluation of a mixture in chunks of rows.
- `arguments`, `protocol`: checks of arguments, and the interface that these modules use.
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
