"""A Bayesian network for classes."""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from posterity.data import Observations, Standardization
from posterity.inference.estimators.base import TableEstimator
from posterity.models.pair import Pair
from posterity.models.pairs import bayesian_classification


class BayesianClassifier(ClassifierMixin, TableEstimator):
    """A Bayesian network for classes: the full posterior of `posterity.models.bayesian_classification`.

    `score` is the accuracy, as of every classifier of scikit-learn; the mean log score is `log_score_scorer`.

    Args:
        hidden: widths of the hidden layers.
        method: as in `BayesianRegressor`.
        missing: as in `BayesianRegressor`.
        draws: number of posterior draws in a prediction.
        random_state: seed, or scikit-learn's other forms of it.
        verbose: whether a method that is named by a string shows its progress.

    Attributes:
        classes_: the classes (C,), sorted.
        posterior_: the `Posterior`, for diagnostics and ArviZ.
        table_: the reader of frames with the names of the columns; None after a fit to an array.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (32,),
        method: Any = "hmc",
        missing: str = "refuse",
        draws: int = 400,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.method = method
        self.missing = missing
        self.draws = draws
        self.random_state = random_state
        self.verbose = verbose

    def _y_settings(self) -> dict[str, Any]:
        return {}

    def _targets(self, y: Any) -> Tensor:
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"expected at least two classes in y, got 1 class: {self.classes_[0]!r}")
        return torch.as_tensor(index)

    def _pair(self, x: Tensor, y: Tensor) -> Pair:
        scale = Standardization.fit(Observations(x, y))
        return bayesian_classification(scale, len(self.classes_), hidden=self.hidden)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, C) of the classes, averaged over the posterior."""
        probabilities = self._likelihood(X).probs.double().mean(0).numpy()
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row (N,)."""
        place = self.predict_proba(X).argmax(1)
        return self.classes_[place]
