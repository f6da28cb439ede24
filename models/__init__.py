"""Networks, priors, likelihoods and mixtures, and complete models with their guides.

- `networks`: `mlp`, `radial`; `bayesian` and `point`, which place any module in a Pyro model.
- `priors`: priors over weights, one object each.
- `likelihoods`: unimodal distributions of y from features; `mixtures`: multimodal ones; `mixture_priors`: priors over
  the components of a mixture.
- `GaussianProcess`, `kernels`: exact regression, and the wide limits of Bayesian networks.
- `ProbabilisticPCA`: the exact posterior of missing values.
- `pairs`: models of a table in its own units, with their guides; `guides`: guides by name.
- `generators`, `discriminators`: the networks of adversarial training; `stacked`: many networks as one; `lenet`: a
  classifier whose features other measures use.
- `tracking`: networks that find tracks in a detector.
- `recurrent`: mixture density recurrent networks, the distribution of the next state of a sequence; `dreaming` samples
  the future from them; `autoencoder`: pictures as points of a few dimensions.
- `super_resolution`: networks that enlarge pictures; `translation`: networks between two kinds of pictures;
  `completion`: networks that fill a hidden part; `residual`, `tiling`: a block of such networks, and large pictures in
  tiles.
- `showers`: a generator of showers in a calorimeter, and its critic.
- `parameters`, `tails`, `families`: parameters of distributions, and their distribution functions, also in the tails.
- `modules`, `plates`, `chunks`: calls of modules, terms outside plates, and work on large tensors.
"""

from posterity.models import (
    autoencoder,
    completion,
    discriminators,
    dreaming,
    generators,
    kernels,
    mixture_priors,
    priors,
    recurrent,
    showers,
    super_resolution,
    translation,
)
from posterity.models.gaussian_process import GaussianProcess
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
from posterity.models.pair import Pair
from posterity.models.pairs import (
    bayesian_classification,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    table_prior,
)
from posterity.models.probabilistic_pca import ProbabilisticPCA
from posterity.models.stacked import Stacked

__all__ = [
    "GaussianProcess",
    "LeNet",
    "Mixture",
    "MixtureHead",
    "Modes",
    "MultivariateMixtureHead",
    "Pair",
    "ProbabilisticPCA",
    "RadialBasis",
    "Regions",
    "Stacked",
    "autoencoder",
    "bayesian",
    "bayesian_classification",
    "bayesian_mixture_density",
    "bayesian_regression",
    "completion",
    "discriminators",
    "dreaming",
    "empty_guide",
    "gaussian",
    "generators",
    "heteroscedastic_gaussian",
    "kernels",
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
    "recurrent",
    "save_lenet",
    "showers",
    "student_t",
    "super_resolution",
    "table_prior",
    "translation",
]
