"""Scores for ``cross_val_score(..., scoring=)`` and ``GridSearchCV``: functions of an estimator, X and y.

Higher is better for all of them, as scikit-learn expects.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from posterity.inference.diagnostics.scoring.scores import scores
from posterity.inference.estimators.base import read_targets
from posterity.validation import check_number


def log_score_scorer(estimator: Any, X: Any, y: Any) -> float:
    """The mean log score in nats, of a regressor or a classifier; -inf if a class that occurred has probability 0."""
    if hasattr(estimator, "predict_proba"):
        probabilities, y = estimator.predict_proba(X), column_or_1d(y)
        check_consistent_length(probabilities, y)
        place = {label: index for index, label in enumerate(estimator.classes_.tolist())}
        unknown = sorted({str(label) for label in y if label not in place})
        if unknown:
            raise ValueError(f"expected classes of the training, {list(place)}, got {unknown}")
        chosen = probabilities[np.arange(len(probabilities)), [place[label] for label in y]]
        with np.errstate(divide="ignore"):
            return float(np.log(chosen).mean())
    return float(estimator.score(X, y))


def crps_scorer(estimator: Any, X: Any, y: Any) -> float:
    """Minus the mean CRPS of a regressor, in units of y."""
    predictive = _of_last_step(estimator, X)
    return -float(scores(predictive, read_targets(y, len(predictive.mean)))["crps"].mean())


def coverage_scorer(level: float = 0.9) -> Callable[[Any, Any, Any], float]:
    """A score that is highest, at 0, if central intervals of probability ``level`` cover that share of y.

    Raises:
        ValueError: ``level`` is not in (0, 1).
    """
    check_number("level", level, "(0, 1)")

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        predictive = _of_last_step(estimator, X)
        place = predictive.cdf(read_targets(y, len(predictive.mean)))
        inside = ((place - 0.5).abs() <= 0.5 * level).double().mean()
        return -abs(float(inside) - level)

    return scorer


def _of_last_step(estimator: Any, X: Any) -> Any:
    """The predictive distribution of an estimator, or of the last step of a pipeline."""
    if hasattr(estimator, "steps"):
        return estimator[-1].predict_distribution(estimator[:-1].transform(X) if len(estimator) > 1 else X)
    if not hasattr(estimator, "predict_distribution"):
        raise ValueError(f"expected an estimator with predict_distribution, got {type(estimator).__name__}")
    return estimator.predict_distribution(X)
