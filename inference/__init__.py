"""Inference, and the diagnostics that judge it.

- `infer` conditions a model on data by a method (`NUTS`, `HMC`, `MCLMC`, `SVI`, `Ensemble`) and returns a `Posterior`.
- `sweep` compares the values of a setting, such as the number of components, on held-out rows.
- `Blocks` runs a sampler's chains in several processes, or on a cluster.
- `resume` continues a sampler's run from its checkpoint.
- `engine` evaluates a Pyro model for all chains at once, traced and compiled; the samplers in `mcmc` run on it.
- `Posterior.predictive` returns a `PredictiveMixture`, `Posterior.to_arviz` returns ArviZ data (see `arviz`).
- `diagnostics` judge a posterior, `plots` show it; both work on stored results without torch.
- `adversarial` trains generative adversarial networks, for samples without a density.
- `ConvergenceWarning` is the category of warnings about a fit or a sampler that has not converged.
- `training` holds the parts that all fits by gradients share, fits to a simulator (`training.streaming`) and
  classifiers of images (`training.classifier`).
- `estimators` have scikit-learn's conventions: a posterior without knowing Pyro.
- `tracking` finds tracks without learning, and counts how many were found.
- `showers` trains generators in place of a simulation of a calorimeter, and has what they are compared by.
- `completion` fills the hidden part of pictures in many ways.
- `program` reads Pyro models: their sites, and the likelihood of all draws at once.
"""

from importlib.util import find_spec

from posterity.inference.convergence import ConvergenceWarning

__all__ = ["ConvergenceWarning"]

if find_spec("torch"):  # without torch, only `arviz`, `convergence`, `diagnostics` and `plots` can be imported
    from posterity.inference.ensemble import Ensemble
    from posterity.inference.infer import Method, infer
    from posterity.inference.mcmc import HMC, MCLMC, NUTS, Blocks, resume
    from posterity.inference.posterior import Posterior
    from posterity.inference.predictive import PredictiveMixture
    from posterity.inference.svi import SVI
    from posterity.inference.sweep import sweep

    __all__ += [
        "HMC",
        "MCLMC",
        "NUTS",
        "SVI",
        "Blocks",
        "Ensemble",
        "Method",
        "Posterior",
        "PredictiveMixture",
        "infer",
        "resume",
        "sweep",
    ]
