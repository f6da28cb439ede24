"""What we believe of a mixture before the data: against components that collapse, and against ones nobody needs.

The likelihood of a mixture of normals has no maximum: a component that closes in on one point makes it infinite (Day
1969). A stated resolution as the heads' floor is the first cure; these are the others. Each is called inside a model
with a name and the mixture of all rows, and adds one log density, of the mixture's averages over the rows, that counts
once per data set (times ``strength``), however many rows there are, also inside a plate and with batches of the rows:

- `WideScales`: an inverse gamma over the variances (Fraley & Raftery 2007, "Bayesian regularization for normal mixture
  estimation"), whose density vanishes at zero;
- `EvenWeights`: the entropy of the weights, so that every component is used somewhere;
- `SparseWeights`: a Dirichlet below one over the average weights, so that components that are not needed empty
  (Rousseau & Mengersen 2011); `used_components` of the diagnostics says which.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from posterity.models.mixtures import Mixture
from posterity.models.plates import factor_once
from posterity.validation import check_number

SMALLEST_WEIGHT = 1e-4  # where a Dirichlet below one ends: its density has no maximum, a weight of zero no gradient


class MixturePrior(Protocol):
    """Anything that adds one log density for a mixture (`posterity.models.plates.factor_once`)."""

    def __call__(self, name: str, mixture: Mixture) -> None: ...


@dataclass(frozen=True, kw_only=True)
class WideScales:
    """Inverse gamma of ``concentration`` a and mode ``scale``² over each component's variance; average over rows.

    The log density is -(a + 1)(log v + scale²/v), up to a constant that puts its maximum at 0, summed over the
    components (and targets). ``scale`` is in the units of the head's y: what would surprise nobody.
    """

    scale: float = 0.3
    concentration: float = 1.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self)

    def __call__(self, name: str, mixture: Mixture) -> None:
        log_ratio = mixture.component_distribution.variance.log() - 2 * math.log(self.scale)
        log_density = -(self.concentration + 1) * (log_ratio + torch.exp(-log_ratio) - 1)
        factor_once(name, self.strength * log_density.flatten(len(mixture.batch_shape)).sum(-1).mean())


@dataclass(frozen=True, kw_only=True)
class EvenWeights:
    """``strength`` times the entropy of the weights in nats, less its maximum log K; average over rows."""

    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self)

    def __call__(self, name: str, mixture: Mixture) -> None:
        entropy = -(mixture.log_weights.exp() * mixture.log_weights.clamp_min(-100.0)).sum(-1)
        factor_once(name, self.strength * (entropy - math.log(mixture.num_components)).mean())


@dataclass(frozen=True, kw_only=True)
class SparseWeights:
    """A symmetric Dirichlet with ``concentration`` below one over the weights averaged over all rows.

    Its density is cut off at weights of 1e-4. ``strength`` multiplies it: a MAP estimate of N rows feels a prior that
    counts as one row only where the likelihood is flat; of the order of log N it is the penalty of the BIC.
    """

    concentration: float = 0.1
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self)
        if not self.concentration < 1:
            raise ValueError(f"expected a concentration below 1 (above, weights become even), got {self.concentration}")

    def __call__(self, name: str, mixture: Mixture) -> None:
        average = mixture.log_weights.exp().reshape(-1, mixture.num_components).mean(0)
        log_weights = torch.log(average + SMALLEST_WEIGHT)
        factor_once(name, self.strength * (self.concentration - 1) * log_weights.sum())


def _check_positive(prior: object) -> None:
    for name, value in vars(prior).items():
        check_number(f"{name} of {type(prior).__name__}", value, "(0, inf)")
