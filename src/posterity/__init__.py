"""Uncertainty of neural networks in Pyro: full posteriors, mixture densities, and the diagnostics to judge them.

- `posterity.data`: what we observe. Tables, simulators with a known truth, standardisation, splits.
- `posterity.models`: what we believe. Networks as sample sites, priors, likelihoods, mixtures, ready models.
- `posterity.inference`: what we learn. `infer` and its methods, `Posterior`, `PredictiveMixture`; below it
  `posterity.inference.diagnostics` and `posterity.inference.plots`: whether to believe it.

Everything predicts with a mixture over the draws of the posterior, so one set of diagnostics judges them all.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.2.0"
__all__ = ["data", "inference", "models"]


def __getattr__(name: str) -> ModuleType:
    """The three rooms on first use: ``import posterity`` alone is instant."""
    if name in __all__:
        return import_module(f"posterity.{name}")
    raise AttributeError(f"module 'posterity' has no attribute {name!r}")
