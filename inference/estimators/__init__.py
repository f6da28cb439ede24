"""Estimators with scikit-learn's conventions, thin wrappers over the ready models; no Pyro needed.

- `BayesianRegressor`: one mode, with noise that may depend on the inputs.
- `MixtureDensityRegressor`: several modes.
- `BayesianClassifier`: classes.
- `log_score_scorer`, `crps_scorer`, `coverage_scorer`: for ``cross_val_score`` and ``GridSearchCV``.

All take arrays, and frames of pandas or polars, whose names they keep. ``method`` is any method of inference, by name
or as an object. ``posterior_`` is the `Posterior`, and `predict_distribution` returns the `PredictiveMixture`: every
diagnostic and every plot takes them.
"""

from posterity.inference.estimators.classifier import BayesianClassifier
from posterity.inference.estimators.regressors import BayesianRegressor, MixtureDensityRegressor
from posterity.inference.estimators.scorers import coverage_scorer, crps_scorer, log_score_scorer

__all__ = [
    "BayesianClassifier",
    "BayesianRegressor",
    "MixtureDensityRegressor",
    "coverage_scorer",
    "crps_scorer",
    "log_score_scorer",
]
