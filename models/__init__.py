"""What we believe: networks, priors, likelihoods, mixtures, and ready pairs of a model and its guide.

- `networks`: `mlp`, `radial`; `bayesian` and `point`, by which any module enters a Pyro model.
- `priors`: one small object for each prior over weights.
- `likelihoods`: from features to the distribution of y with one answer; `mixtures`: with several;
  `mixture_priors`: what is believed of those.
- `pairs`: models of a table, in its own units, with their guides; `guides`: guides by name.
- `generators`, `discriminators`: what adversarial training trains; `stacked`: many networks as one; `lenet`: features.
- `tracking`: networks that find tracks in a detector.
- `parameters`, `tails`: distributions taken apart and put together, and their functions far out.
"""

from posterity.models import discriminators, generators, mixture_priors, priors
from posterity.models.guides import empty_guide, make_guide
from posterity.models.lenet import LeNet, load_lenet, save_lenet
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
from posterity.models.stacked import Stacked

__all__ = [
    "LeNet",
    "Mixture",
    "MixtureHead",
    "Modes",
    "MultivariateMixtureHead",
    "Pair",
    "RadialBasis",
    "Regions",
    "Stacked",
    "bayesian",
    "bayesian_mixture_density",
    "bayesian_regression",
    "discriminators",
    "empty_guide",
    "gaussian",
    "generators",
    "heteroscedastic_gaussian",
    "load_lenet",
    "make_guide",
    "mixture_density",
    "mixture_head",
    "mixture_priors",
    "mlp",
    "multivariate_mixture_head",
    "point",
    "priors",
    "radial",
    "save_lenet",
    "student_t",
    "table_prior",
]
