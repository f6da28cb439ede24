"""What was observed: a table of inputs `x` and targets `y`, checked once so that nothing after it has to.

Every loader and simulator of `posterity.data` returns `Observations`. Build one yourself from tensors or numpy
arrays; for a CSV file there is `posterity.data.read_csv`. The mistakes that later turn into a silent broadcast or
a NaN posterior (a column of shape (N, 1) for y, a missing value, an empty table) are refused here, by name.

Simulators also know the truth: their `oracle` gives the exact conditional distribution p(y | x) at any x, so the
expected log score of a model can be held against a floor that no model can pass.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

Oracle = Callable[[Tensor], Distribution]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Observations:
    """N observations of D inputs and one or more targets.

    Args:
        x: inputs, shape (N, D), D >= 1. A tensor, a numpy array or nested lists.
        y: targets, shape (N,), or (N, T) for T >= 2 targets.
        x_names: D names, by default `x0, x1, ...`.
        y_names: one name for each target, by default `y`, or `y0, y1, ...` for several.
        oracle: for simulated data, maps inputs of shape (M, D) to the exact conditional distribution p(y | x), of
            batch shape (M,) and event shape () or (T,).
        name: a short name of the data set.
        source: where it comes from: a paper, a formula, a file.

    `x` and `y` share one floating dtype and one device. Integers and booleans become the default dtype (float32
    unless torch is told otherwise), as do lists; float64 stays float64, and where x and y differ the wider one
    wins. Numpy arrays are copied; tensors are not.

    Raises:
        ValueError: a wrong shape, an empty table, lengths that differ, a value that is not finite (the message
            names the column), a dtype that is not real, a wrong number of names or a name used twice.

    >>> data = Observations([[1.0], [2.0], [4.0]], [0.1, 0.2, 0.4], x_names=["dose"], y_names=["response"])
    >>> data
    Observations(3 rows, x: dose, y: response, torch.float32)
    >>> data.subset([0, 2]).y
    tensor([0.1000, 0.4000])
    """

    x: Tensor
    y: Tensor
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    oracle: Oracle | None
    name: str
    source: str

    def __init__(
        self,
        x: Tensor | np.ndarray | Sequence[Any],
        y: Tensor | np.ndarray | Sequence[Any],
        x_names: Sequence[str] | None = None,
        y_names: Sequence[str] | None = None,
        oracle: Oracle | None = None,
        name: str = "",
        source: str = "",
    ) -> None:
        x, y = _tensor("x", x), _tensor("y", y)
        if x.device != y.device:
            raise ValueError(f"expected x and y on one device, got {x.device} and {y.device}")
        dtype = torch.promote_types(x.dtype, y.dtype)
        if not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
        x, y = x.to(dtype), y.to(dtype)

        if x.ndim != 2:
            raise ValueError(f"expected x of shape (N, features), got {tuple(x.shape)}{_hint(x)}")
        if x.shape[0] == 0 or x.shape[1] == 0:
            raise ValueError(f"expected at least one row and one feature, got x of shape {tuple(x.shape)}")
        if y.ndim == 2 and y.shape[1] == 1:
            raise ValueError(f"expected y of shape ({len(x)},), got {tuple(y.shape)}; use y[:, 0]")
        if y.ndim not in (1, 2) or len(y) != len(x) or (y.ndim == 2 and y.shape[1] == 0):
            raise ValueError(
                f"expected y of shape ({len(x)},), or ({len(x)}, targets) for two or more targets, got {tuple(y.shape)}"
            )
        x_names = _names("x", x_names, x.shape[1], [f"x{i}" for i in range(x.shape[1])])
        targets = 1 if y.ndim == 1 else y.shape[1]
        y_names = _names("y", y_names, targets, ["y"] if targets == 1 else [f"y{i}" for i in range(targets)])
        if twice := [repr(name) for name, count in Counter([*x_names, *y_names]).items() if count > 1]:
            raise ValueError(f"expected a different name for each column, got {', '.join(twice)} more than once")
        _check_finite("x", x, x_names)
        _check_finite("y", y, y_names)

        values = (x, y, x_names, y_names, oracle, name, source)
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)  # the way in to a frozen dataclass

    def __len__(self) -> int:
        """The number of rows N."""
        return len(self.x)

    def __repr__(self) -> str:
        label = f"{self.name}: " if self.name else ""
        columns = f"x: {', '.join(self.x_names)}, y: {', '.join(self.y_names)}"
        oracle = ", with oracle" if self.oracle is not None else ""
        return f"Observations({label}{len(self)} rows, {columns}, {self.x.dtype}{oracle})"

    def subset(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> "Observations":
        """The rows in `index`: integers, a boolean mask of shape (N,), or a slice. Names and oracle are kept.

        Raises:
            ValueError: nothing is left, or `index` is not one-dimensional, or neither integer nor boolean.
            IndexError: a row that does not exist.
        """
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
            if index.numel() == 0:
                index = index.long()  # an empty list is float to torch; the empty table is refused below
            if index.ndim != 1 or index.dtype.is_floating_point or index.dtype.is_complex:
                raise ValueError(
                    "expected an index of integers or booleans with one dimension, "
                    f"got shape {tuple(index.shape)} and {index.dtype}"
                )
            index = index.to(self.x.device)
        return replace(self, x=self.x[index], y=self.y[index])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Observations":
        """The same table on another device or in another floating dtype; None leaves either as it is.

        Raises:
            ValueError: `dtype` is not floating, or too narrow to hold the values.
        """
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"expected a floating dtype, got {dtype}")
        return replace(self, x=self.x.to(device=device, dtype=dtype), y=self.y.to(device=device, dtype=dtype))

    def oracle_log_prob(self) -> Tensor:
        """log p(y | x) of every row under the truth, shape (N,), in nats per unit of y.

        Minus its mean estimates the floor: the lowest expected negative log-likelihood that any model can reach.

        Raises:
            ValueError: the table has no oracle, or the oracle's shapes do not fit the table's.
        """
        if self.oracle is None:
            raise ValueError(f"expected observations with an oracle, got {self!r}")
        log_prob = self.oracle(self.x).log_prob(self.y)
        if log_prob.shape != (len(self),):
            raise ValueError(f"expected an oracle with log_prob of shape ({len(self)},), got {tuple(log_prob.shape)}")
        return log_prob


def _tensor(label: str, values: Tensor | np.ndarray | Sequence[Any]) -> Tensor:
    if not isinstance(values, Tensor):
        has_dtype = hasattr(values, "__array__")
        try:
            array = np.array(values)  # a copy: the table stays what it was if the caller's array changes
        except ValueError as error:
            raise ValueError(f"expected {label} to be a rectangular table of numbers: {error}") from error
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise ValueError(f"expected {label} to be real numbers, got dtype {array.dtype}")
        if array.dtype.kind in "bu":
            array = array.astype(np.int64)  # torch computes little with unsigned integers
        values = torch.from_numpy(array)
        if not has_dtype and values.is_floating_point():
            values = values.to(torch.get_default_dtype())
    if values.is_complex():
        raise ValueError(f"expected {label} to be real numbers, got dtype {values.dtype}")
    return values


def _hint(x: Tensor) -> str:
    return "; use x[:, None] for one feature" if x.ndim == 1 else ""


def _names(label: str, names: Sequence[str] | None, count: int, default: list[str]) -> tuple[str, ...]:
    if names is None:
        return tuple(default)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected {label}_names to be a sequence of strings, got {names!r}")
    if len(names) != count:
        raise ValueError(f"expected {count} names in {label}_names, got {len(names)}: {list(names)}")
    return tuple(names)


def _check_finite(label: str, values: Tensor, names: tuple[str, ...]) -> None:
    columns = values.unsqueeze(-1) if values.ndim == 1 else values
    bad = ~torch.isfinite(columns)
    if not bad.any():
        return
    column = int(bad.any(0).int().argmax())
    rows = bad[:, column].nonzero()[:, 0]
    raise ValueError(
        f"expected finite values in {label}, got {len(rows)} of {len(values)} not finite in column "
        f"'{names[column]}', the first in row {int(rows[0])}"
    )
