"""What we believe: networks, priors, likelihoods, mixtures, and ready pairs of a model and its guide.

- `networks`: `mlp`, `radial`; `bayesian` and `point`, by which any module enters a Pyro model.
- `priors`: one small object for each prior over weights.
- `likelihoods`: from features to the distribution of y with one answer; `mixtures`: with several;
  `mixture_priors`: what is believed of those.
- `pairs`: models of a table, in its own units, with their guides; `guides`: guides by name.
- `parameters`, `tails`: distributions taken apart and put together, and their functions far out.
"""

from posterity.models import mixture_priors, priors
from posterity.models.guides import empty_guide, make_guide
from posterity.models.likelihoods import gaussian, heteroscedastic_gaussian, student_t
from posterity.models.mixtures import (
    Mixture,
    MixtureHead,
    Modes,
    MultivariateMixtureHead,
    Regions,
    mixture_head,
    multivariate_mixture_head,
)
from posterity.models.networks import RadialBasis, bayesian, mlp, point, radial
from posterity.models.pairs import (
    Pair,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    table_prior,
)

__all__ = [
    "Mixture",
    "MixtureHead",
    "Modes",
    "MultivariateMixtureHead",
    "Pair",
    "RadialBasis",
    "Regions",
    "bayesian",
    "bayesian_mixture_density",
    "bayesian_regression",
    "empty_guide",
    "gaussian",
    "heteroscedastic_gaussian",
    "make_guide",
    "mixture_density",
    "mixture_head",
    "mixture_priors",
    "mlp",
    "multivariate_mixture_head",
    "point",
    "priors",
    "radial",
    "student_t",
    "table_prior",
]
