"""Priors over the components of a mixture: against collapsing components, and for or against unused ones.

The likelihood of a mixture of normals has no maximum: a component that collapses onto one point makes it infinite (Day
1969). The floor of a head prevents this; these priors do as well. Each is called inside a model with a name and the
mixture of all rows, and adds one log density of the mixture's averages over the rows. It counts once per data set,
multiplied by ``strength``, whatever the number of rows, also inside a plate and with minibatches:

- `WideScales`: an inverse gamma over the variances (Fraley & Raftery 2007, "Bayesian regularization for normal mixture
  estimation"), whose density vanishes at zero;
- `EvenWeights`: the entropy of the weights, so that every component is used somewhere;
- `SparseWeights`: a Dirichlet with concentration below one over the average weights, so that the weights of surplus
  components vanish (Rousseau & Mengersen 2011); the diagnostic `component_usage` reports the components in use.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from posterity.models.mixtures import Mixture
from posterity.models.plates import factor_once
from posterity.validation import check_number

SMALLEST_WEIGHT = 1e-4  # added to weights: the density of such a Dirichlet is infinite, without a gradient, at zero


class MixturePrior(Protocol):
    """A callable that adds one log density for a mixture, by `posterity.models.plates.factor_once`."""

    def __call__(self, name: str, mixture: Mixture) -> None: ...


@dataclass(frozen=True, kw_only=True)
class WideScales:
    """An inverse gamma prior with ``concentration`` a and mode ``scale``² over the variances; averaged over rows.

    The log density of a variance v is -(a + 1)(log v + scale²/v), up to a constant that sets its maximum to 0, summed
    over components and targets. ``scale`` is a plausible standard deviation of a component, in units of the head's y.

    Raises:
        ValueError: a setting that is not above 0.
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
    """``strength`` times the entropy of the weights in nats minus its maximum log K; averaged over rows.

    Raises:
        ValueError: a strength that is not above 0.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self)

    def __call__(self, name: str, mixture: Mixture) -> None:
        entropy = -(mixture.log_weights.exp() * mixture.log_weights.clamp_min(-100.0)).sum(-1)
        factor_once(name, self.strength * (entropy - math.log(mixture.num_components)).mean())


@dataclass(frozen=True, kw_only=True)
class SparseWeights:
    """A symmetric Dirichlet prior with ``concentration`` below one over the weights, averaged over all rows.

    Its density is cut off at weights of 1e-4. ``strength`` multiplies the log density: at 1 the prior weighs as much
    as one row, and affects a MAP estimate only where the likelihood is flat; of the order of log N it is the penalty of
    the BIC.

    Raises:
        ValueError: a strength that is not above 0, or a concentration outside (0, 1).
    """

    concentration: float = 0.1
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_number("strength of SparseWeights", self.strength, "(0, inf)")
        check_number("concentration of SparseWeights", self.concentration, "(0, 1)")

    def __call__(self, name: str, mixture: Mixture) -> None:
        average = mixture.log_weights.exp().reshape(-1, mixture.num_components).mean(0)
        log_weights = torch.log(average + SMALLEST_WEIGHT)
        factor_once(name, self.strength * (self.concentration - 1) * log_weights.sum())


def _check_positive(prior: object) -> None:
    for name, value in vars(prior).items():
        check_number(f"{name} of {type(prior).__name__}", value, "(0, inf)")
