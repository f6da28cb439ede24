"""Uncertainty of neural networks in Pyro: posteriors, mixture densities, and the diagnostics that judge them.

- `posterity.data`: tables, simulators with a known truth, standardisation, splits.
- `posterity.models`: networks as sample sites, priors, likelihoods, mixtures, ready models.
- `posterity.inference`: `infer` and its methods (`NUTS`, `HMC`, `SVI`, `Ensemble`), `Posterior`, `PredictiveMixture`.
- `posterity.inference.diagnostics` and `posterity.inference.plots`: whether to trust a posterior.

Every model predicts with a mixture over the draws of its posterior, so the same diagnostics judge all models.

    from posterity.data import Standardization, mcycle
    from posterity.inference import NUTS, infer
    from posterity.models import bayesian_regression

    data = mcycle()
    model = bayesian_regression(Standardization.fit(data))
    posterior = infer(model, data.x, data.y, method=NUTS(chains=64), seed=0)
    predictive = posterior.predictive(data.x)  # mean, variance, icdf, hdr, log_prob, sample
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.2.0"
__all__ = ["data", "inference", "models"]


def __getattr__(name: str) -> ModuleType:
    """Import the three packages when they are first used, so that ``import posterity`` is instant."""
    if name in __all__:
        return import_module(f"posterity.{name}")
    raise AttributeError(f"module 'posterity' has no attribute {name!r}")
