"""Regressors: a Bayesian network with one mode, and a mixture density network with several."""

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor

from posterity.data import Observations, Standardization
from posterity.inference.estimators.base import TableEstimator, read_targets
from posterity.models.pair import Pair
from posterity.models.pairs import bayesian_mixture_density, bayesian_regression


class DensityRegressor(RegressorMixin, TableEstimator):
    """What both regressors predict: means, standard deviations, quantiles and intervals; a subclass names its model."""

    def _targets(self, y: Any) -> Tensor:
        if np.ptp(y) == 0:
            raise ValueError(f"expected y that varies, got {len(y)} times {y[0]}")
        return torch.from_numpy(np.array(y, np.float64))  # a copy: columns of pandas are read-only

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean (N,) of y, and with ``return_std`` its standard deviation (N,), noise included; in units of y."""
        predictive = self.predict_distribution(X)
        mean = predictive.mean.double().numpy()
        return (mean, predictive.stddev.double().numpy()) if return_std else mean

    def predict_quantiles(self, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles (N, Q) of y.

        Raises:
            ValueError: a probability is not in (0, 1).
        """
        levels = np.atleast_1d(np.asarray(quantiles, np.float64))
        if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"expected quantiles in (0, 1), got {quantiles!r}")
        return self.predict_distribution(X).quantiles(levels.tolist()).double().numpy()

    def predict_interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        """The central interval of probability ``level``: lower and upper end (N, 2).

        Raises:
            ValueError: ``level`` is not in (0, 1).
        """
        return np.stack([end.double().numpy() for end in self.predict_distribution(X).interval(level)], 1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The mean log score log p(y|x) in nats, higher is better; with weights the weighted mean."""
        predictive = self.predict_distribution(X)
        log_prob = predictive.log_prob(read_targets(y, len(predictive.mean))).double().numpy()
        return float(np.average(log_prob, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # the score is a log score and not R²
        return tags


class BayesianRegressor(DensityRegressor):
    """A Bayesian network with normal noise: the full posterior of `posterity.models.bayesian_regression`.

    Args:
        hidden: widths of the hidden layers.
        noise: "input" (the noise depends on x) or "constant".
        method: "hmc", "nuts", "svi", "ensemble", "map", or a method such as ``HMC(chains=32)``.
        resolution: precision to which y was recorded, in units of y; None: a thousandth of its standard deviation.
        missing: "refuse" or "mean", see `posterity.data.frames.TableReader`; for frames.
        draws: number of posterior draws in a prediction.
        random_state: seed, or scikit-learn's other forms of it.
        verbose: whether a method that is named by a string shows its progress.

    Attributes:
        posterior_: the `Posterior`, for diagnostics and ArviZ. Its ``attrs["warnings"]`` names parts that have not
            converged.
        table_: the reader of frames with the names of the columns; None after a fit to an array.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = BayesianRegressor(hidden=(4,), method="map", random_state=0).fit(x, 3 * x[:, 0])
    >>> mean, sd = model.predict([[0.5]], return_std=True)
    >>> bool(abs(mean[0] - 1.5) < 0.3)
    True
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (32,),
        noise: str = "input",
        method: Any = "hmc",
        resolution: float | None = None,
        missing: str = "refuse",
        draws: int = 400,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.noise = noise
        self.method = method
        self.resolution = resolution
        self.missing = missing
        self.draws = draws
        self.random_state = random_state
        self.verbose = verbose

    def _pair(self, x: Tensor, y: Tensor) -> Pair:
        scale = Standardization.fit(Observations(x, y))
        return bayesian_regression(scale, hidden=self.hidden, noise=self.noise, resolution=self.resolution)


class MixtureDensityRegressor(DensityRegressor):
    """A Bayesian mixture density network, for y with several answers: `posterity.models.bayesian_mixture_density`.

    Args:
        components: the number of normal components.
        hidden: widths of the hidden layers.
        method: as in `BayesianRegressor`; ten posterior modes by default.
        resolution: precision to which y was recorded, in units of y; no component is narrower.
        missing: as in `BayesianRegressor`.
        draws: number of posterior draws in a prediction.
        random_state: seed, or scikit-learn's other forms of it.
        verbose: whether a method that is named by a string shows its progress.

    Attributes:
        posterior_: the `Posterior`, as in `BayesianRegressor`.
        table_: the reader of frames, as in `BayesianRegressor`.
    """

    def __init__(
        self,
        components: int = 3,
        hidden: tuple[int, ...] = (32,),
        method: Any = "ensemble",
        resolution: float | None = None,
        missing: str = "refuse",
        draws: int = 400,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.components = components
        self.hidden = hidden
        self.method = method
        self.resolution = resolution
        self.missing = missing
        self.draws = draws
        self.random_state = random_state
        self.verbose = verbose

    def _pair(self, x: Tensor, y: Tensor) -> Pair:
        scale = Standardization.fit(Observations(x, y))
        return bayesian_mixture_density(
            scale, components=self.components, hidden=self.hidden, resolution=self.resolution
        )
