"""What all estimators share: tables, the method of inference by name, and a posterior that can be pickled."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, column_or_1d, validate_data
from torch import Tensor

from posterity.data import Observations
from posterity.data.frames import MISSING, TableReader, is_frame
from posterity.inference.ensemble import Ensemble
from posterity.inference.infer import Method, infer
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.posterior import Posterior
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program.sites import inspect
from posterity.inference.svi import SVI
from posterity.models.pair import Pair
from posterity.validation import check_choice, check_flag, check_integer, refuse_mask

METHODS: dict[str, Callable[[bool], Method]] = {
    "hmc": lambda progress: HMC(progress=progress),
    "nuts": lambda progress: NUTS(progress=progress),
    "svi": lambda progress: SVI(guide="low_rank", init="map", progress=progress),
    "ensemble": lambda progress: Ensemble(members=10, progress=progress),
    "map": lambda progress: SVI(guide="map", progress=progress),
}


class TableEstimator(ABC, BaseEstimator):
    """Base of the estimators: `fit` and `predict_distribution`; a subclass names its model in ``_pair``.

    A constant column has no influence on any prediction: the model leaves it out.
    """

    missing: str
    method: Any
    draws: int
    random_state: Any
    verbose: bool

    @abstractmethod
    def _pair(self, x: Tensor, y: Tensor) -> Pair:
        """The model of training data x (N, D) and y (N,)."""

    @abstractmethod
    def _targets(self, y: Any) -> Tensor:
        """y (N,) as the model observes it."""

    def _method(self) -> Method:
        if isinstance(self.method, str):
            return METHODS[check_choice("method", self.method, sorted(METHODS))](self.verbose)
        if isinstance(self.method, type) or not isinstance(self.method, Method):
            raise ValueError(
                f"expected method to be one of {sorted(METHODS)} or a method such as HMC(), got {self.method!r}"
            )
        return self.method

    def fit(self, X: Any, y: Any) -> Any:
        """Condition the model on X (N, D) and y (N,).

        Raises:
            ValueError: X or y has missing or infinite values, another shape or fewer than two rows, all columns are
                constant, or a setting is invalid.
        """
        check_flag("verbose", self.verbose)
        method = self._method()
        check_integer("draws", self.draws, 1)
        check_choice("missing", self.missing, MISSING)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        self.table_ = TableReader(self.missing).fit(X) if is_frame(X) else None
        numbers, y = self._validated(X, y)
        targets = self._targets(y)
        self.kept_ = np.ptp(numbers, 0) > 0  # a standard deviation of equal numbers may not be 0, by rounding
        if not self.kept_.any():
            raise ValueError(f"expected a column of X that varies, got {numbers.shape[1]} that are constant")
        x, targets = _narrowed(self._inputs(numbers), targets)
        pair = self._pair(x, targets)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.training_data_ = x, targets
        self.posterior_ = infer(pair, x, targets, method=method, seed=seed)
        return self

    def predict_distribution(self, X: Any) -> PredictiveMixture:
        """The predictive distribution of every row of X, batch shape (N,).

        Raises:
            ValueError: X has other columns than in training, or missing or infinite values.
        """
        return PredictiveMixture.from_draws(self._likelihood(X))

    def _likelihood(self, X: Any) -> Any:
        """The distribution of y for each draw of the posterior, batch shape (S, N)."""
        check_is_fitted(self)
        numbers, _ = self._validated(X, None)
        count = self.posterior_.num_chains * self.posterior_.num_draws
        return self.posterior_.likelihood(self._inputs(numbers), draws=min(self.draws, count))

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, Any]:
        """Numbers (N, D) in float64, and y; also compares, or in training learns, the names and number of columns."""
        _refuse("y", y)
        rows: dict[str, Any] = {"dtype": np.float64, "ensure_min_samples": 1 if y is None else 2}
        if is_frame(X) and getattr(self, "table_", None) is not None:
            validate_data(self, X, skip_check_array=True, reset=y is not None)
            numbers = self.table_.read(X)  # type: ignore[union-attr]
            if y is None:
                return check_array(numbers, **rows), None
            return check_X_y(numbers, y, **rows, **self._y_settings())
        _refuse("X", X)
        if y is None and self.table_ is not None and self.table_.categories:
            raise ValueError(
                f"expected a frame with the columns {list(self.table_.columns)}, as in training, got an array"
            )
        if y is None:
            return validate_data(self, X, reset=False, **rows), None
        return validate_data(self, X, y, **rows, **self._y_settings())  # type: ignore[return-value]

    def _y_settings(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _inputs(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(numbers[:, self.kept_])

    def __getstate__(self) -> dict[str, Any]:
        """The posterior as numbers: its model is a function, which cannot be pickled and is made again."""
        state = dict(super().__getstate__())  # a copy: it may be the attributes themselves
        posterior = state.pop("posterior_", None)
        if posterior is not None:
            state["_numbers"] = {
                part: {name: value.numpy() for name, value in getattr(posterior, part).items()}
                for part in ("draws", "sample_stats", "history")
            } | {"attrs": dict(posterior.attrs)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state.get("_numbers")
        super().__setstate__({name: value for name, value in state.items() if name != "_numbers"})
        if numbers is None:
            return
        pair = self._pair(*self.training_data_)
        tensors = {
            part: {name: torch.as_tensor(value) for name, value in numbers[part].items()}
            for part in ("draws", "sample_stats", "history")
        }
        program = inspect(pair.model, self.training_data_, None)
        self.posterior_ = Posterior(pair.model, program, **tensors, attrs=numbers["attrs"])


def _refuse(name: str, values: Any) -> None:
    """``ValueError`` for a mask, and for dates and spans of time, which scikit-learn reads as nanoseconds."""
    refuse_mask(name, values)
    dtype = np.asarray(values).dtype if is_frame(values) else getattr(values, "dtype", None)
    if getattr(dtype, "kind", "") in ("M", "m"):
        raise ValueError(f"expected numbers in {name}, got {dtype}: convert it to numbers")


def read_targets(y: Any, rows: int) -> Tensor:
    """y as finite numbers (N,), also of a frame or an array of one column.

    Raises:
        ValueError: y has missing or infinite values, several columns, or another length than ``rows``.
    """
    _refuse("y", y)
    numbers = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64))
    if len(numbers) != rows:
        raise ValueError(f"expected y with {rows} values, one for each row of X, got {len(numbers)}")
    return torch.from_numpy(np.array(numbers))  # a copy: columns of pandas are read-only


def _narrowed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, in which a fit is twice as fast; unchanged if that would lose digits. Classes stay integers."""
    try:
        data = Observations(x, y).to(dtype=torch.float32)
    except ValueError:
        return x, y
    return data.x, data.y if y.is_floating_point() else y
