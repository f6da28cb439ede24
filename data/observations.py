"""A table of inputs `x` and targets `y`, which is validated once for all later uses.

All loaders and simulators of `posterity.data` return `Observations`. Tables can also be built from tensors or numpy
arrays, and from CSV files by `posterity.data.read_csv`. Mistakes that would later cause a silent broadcast or a NaN
posterior (a column of shape (N, 1) for y, a missing value, an empty table) raise an error here.

Simulators add an `oracle`, the exact conditional distribution p(y | x) at any x, which gives the highest expected log
score that a model can reach.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.data._precision import FLOATS, damage, holding
from posterity.data.frames import TableReader, is_frame
from posterity.display import COLUMNS, ROWS, count, panel, paragraph, table
from posterity.validation import shown

SUMMARIES = (torch.min, torch.mean, torch.max)
Oracle = Callable[[Tensor], Distribution]


class DefaultNames(tuple[str, ...]):
    """Names of columns that nobody gave; tables that are derived from another keep them."""


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
        source: its origin: a paper, a formula, a file.

    `x` and `y` share one floating dtype and one device. Integers and booleans become the default dtype (float32
    unless torch is told otherwise), as do lists, but float64 where the default would make different values equal or
    lose their digits (time stamps, long numbers). float64 stays float64, and where x and y differ the wider one wins.
    Numpy arrays are copied; tensors are not.

    Raises:
        ValueError: a wrong shape, an empty table, lengths that differ, a value that is not finite or masked (the
            message names the column), integers that not even float64 can tell apart, a dtype that is not real, a wrong
            number of names or a name used twice.

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
        (x, x_open), (y, y_open) = _tensor("x", x), _tensor("y", y)
        if x.device != y.device:
            raise ValueError(f"expected x and y on one device, got {x.device} and {y.device}")
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
        if oracle is not None and not callable(oracle):
            raise ValueError(f"expected oracle to be a function of x, or None, got {shown(oracle)}")
        for label, text in (("name", name), ("source", source)):
            if not isinstance(text, str):
                raise ValueError(f"expected {label} to be a string, got {text!r}")
        dtype = torch.promote_types(_dtype("x", x, x_names, x_open), _dtype("y", y, y_names, y_open))
        x, y = x.to(dtype), y.to(dtype)

        values = (x, y, x_names, y_names, oracle, name, source)
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)  # the dataclass is frozen

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        y: str | Sequence[str],
        x: Sequence[str] | None = None,
        missing: str = "refuse",
        name: str = "",
    ) -> "Observations":
        """The columns ``x`` and ``y`` of a frame of pandas or polars, with their names.

        A column of x that does not hold numbers becomes one column for each of its values, named "column=value" (see
        `posterity.data.frames.TableReader`, which also reads later frames in the same way).

        Args:
            frame: the frame.
            y: name of the target, or names of several.
            x: names of the inputs; None: all other columns.
            missing: "refuse", or "mean", which replaces missing inputs; missing targets are always refused.
            name: a short name of the data set.

        Raises:
            ValueError: ``frame`` is not a frame, a column is absent, has missing values or, in y, no numbers.

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"dose": [1.0, 2.0], "site": ["a", "b"], "response": [0.1, 0.3]})
        >>> Observations.from_frame(frame, y="response")
        Observations(2 rows, x: dose, site=a, site=b, y: response, torch.float64)
        """
        if not is_frame(frame):
            raise ValueError(f"expected frame to be a frame of pandas or polars, got {type(frame).__name__}")
        targets = [y] if isinstance(y, str) else list(y)
        names = [str(column) for column in frame.columns]
        inputs = [column for column in names if column not in targets] if x is None else list(x)
        for argument, wanted in (("y", targets), ("x", inputs)):
            absent = [column for column in wanted if column not in names]
            if absent or not wanted:
                raise ValueError(f"expected {argument} to be names of columns, of {names}, got {absent or wanted}")
        labels = {str(label): label for label in frame.columns}  # of pandas may be numbers
        observed, given = (frame[[labels[column] for column in wanted]] for wanted in (targets, inputs))
        read = TableReader().fit(observed)
        if read.categories:
            raise ValueError(f"expected numbers in y, got other values in {sorted(read.categories)}")
        values = read.read(observed)
        reader = TableReader(missing).fit(given)
        return cls(reader.read(given), values[:, 0] if len(targets) == 1 else values, reader.names, targets, name=name)

    def __len__(self) -> int:
        """The number of rows N."""
        return len(self.x)

    def __repr__(self) -> str:
        label = f"{self.name}: " if self.name else ""
        columns = f"x: {', '.join(self.x_names)}, y: {', '.join(self.y_names)}"
        oracle = ", with oracle" if self.oracle is not None else ""
        return f"Observations({label}{len(self)} rows, {columns}, {self.x.dtype}{oracle})"

    def _repr_html_(self) -> str:
        names = [*self.x_names, *self.y_names]
        columns = torch.cat([as_columns(self.x[:ROWS]), as_columns(self.y[:ROWS])], 1)
        shown = [*range(len(names))][:COLUMNS]
        if len(names) > COLUMNS:  # the targets always
            shown = [*shown[: COLUMNS - len(self.y_names)], *range(len(self.x_names), len(names))][:COLUMNS]
        more = f"and {count(len(names) - len(shown), 'more column')}" if len(names) > len(shown) else ""
        summary = [
            (names[i], "x" if i < len(self.x_names) else "y", *(float(f(self._column(i))) for f in SUMMARIES))
            for i in shown
        ]
        head = ([float(row[i]) for i in shown] for row in columns)
        return panel(
            f"Observations{f': {self.name}' if self.name else ''}",
            paragraph(f"{count(len(self), 'row')}, {self.x.dtype}{', with oracle' if self.oracle is not None else ''}"),
            table(("column", "", "min", "mean", "max"), summary, more),
            table([names[i] for i in shown], head, f"the first of {count(len(self), 'row')}" * (len(self) > ROWS)),
        )

    def _column(self, place: int) -> Tensor:
        inputs = len(self.x_names)
        return self.x[:, place] if place < inputs else as_columns(self.y)[:, place - inputs]

    def subset(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> "Observations":
        """The rows in `index`: integers, a boolean mask of shape (N,), or a slice; with the same names and oracle.

        Raises:
            ValueError: no row is left, or `index` is not one-dimensional, neither integer nor boolean, or a mask of
                another length, or it names a row that does not exist.
        """
        index = rows_in(index, len(self))
        return replace(self, x=self.x[index], y=self.y[index])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Observations":
        """The same table on another device or in another floating dtype; None leaves either unchanged.

        Raises:
            ValueError: `dtype` is not floating, or too narrow: values would become infinite, different ones equal (one
                in a hundred, or any whole numbers), or a column be rounded by more than a thousandth of its spread, so
                that the table must be standardised first. Or `device` does not exist.
        """
        if dtype is not None:
            check_dtype(dtype)
            for values, names in ((self.x, self.x_names), (self.y, self.y_names)):
                refuse_damage(as_columns(values), names, dtype)
        try:
            x, y = (values.to(device=device, dtype=dtype) for values in (self.x, self.y))
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # torch without CUDA raises the second
            raise ValueError(f"expected device to be an available device, got {device!r}: {error}") from error
        return replace(self, x=x, y=y)

    def oracle_log_prob(self) -> Tensor:
        """log p(y | x) of each row under the oracle, shape (N,), in nats, for y in its units.

        Minus its mean estimates the floor: the lowest expected negative log-likelihood that any model can reach.

        Raises:
            ValueError: the table has no oracle, or the oracle's shapes do not fit the table's.
        """
        if self.oracle is None:
            raise ValueError(f"expected observations with an oracle, got {self!r}")
        try:
            truth = self.oracle(self.x)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"expected oracle to be a function of x, got {type(error).__name__}: {error}") from error
        if not isinstance(truth, Distribution):
            raise ValueError(f"expected oracle to return a distribution, got {type(truth).__name__}")
        log_prob = truth.log_prob(self.y)
        if log_prob.shape != (len(self),):
            raise ValueError(f"expected log_prob of the oracle of shape ({len(self)},), got {tuple(log_prob.shape)}")
        return log_prob


def rows_in(index: Any, count: int) -> Any:
    """A slice without change, or an index tensor into ``count`` rows; raises the errors of `Observations.subset`."""
    if isinstance(index, slice):
        try:
            rows = range(count)[index]
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected index to be a slice of whole numbers, got {index}: {error}") from error
        return index if rows.step == 1 else torch.tensor(rows, dtype=torch.long)
    try:
        index = torch.as_tensor(np.array(index) if isinstance(index, np.ndarray) else index)  # a read-only one too
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected index to be integers or booleans, got {type(index).__name__}: {error}") from error
    if index.numel() == 0:
        index = index.long()  # torch reads an empty list as float; the empty table raises an error later
    if index.ndim != 1 or index.dtype.is_floating_point or index.dtype.is_complex:
        raise ValueError(
            "expected index to be integers or booleans with one dimension, "
            f"got shape {tuple(index.shape)} and {index.dtype}"
        )
    if index.dtype == torch.bool and len(index) != count:
        raise ValueError(f"expected index to have {count} booleans, one for each row, got {len(index)}")
    if index.dtype != torch.bool:
        index = index.long()  # torch reads bytes as booleans
        if index.numel() and not -count <= int(index.min()) <= int(index.max()) < count:
            ends = f"{int(index.min())} to {int(index.max())}"
            raise ValueError(f"expected index to have rows from 0 to {count - 1}, got {ends}")
    return index.cpu()


def check_dtype(dtype: Any) -> None:
    """``ValueError`` unless the value is a floating dtype in which torch computes."""
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise ValueError(f"expected dtype to be a floating dtype of torch, got {dtype!r}")


def refuse_damage(columns: Tensor, names: tuple[str, ...], dtype: torch.dtype, where: str = "") -> None:
    """``ValueError`` if ``dtype`` is too narrow for one of the columns (N, D)."""
    if phrase := damage(columns, names, dtype):
        raise ValueError(f"expected a dtype that holds the values{where}, got {dtype}: {phrase}")


def as_columns(values: Tensor) -> Tensor:
    """Values (N,) or (N, T) as a table (N, T)."""
    return values.unsqueeze(-1) if values.ndim == 1 else values


def exact_tensor(label: str, values: Any) -> Tensor:
    """An array as a tensor of its dtype; lists as integers, or in the default dtype if it holds the digits."""
    tensor, dtype_is_open = _tensor(label, values)
    if not dtype_is_open or not tensor.is_floating_point():
        return tensor
    return tensor.to(holding(tensor.reshape(-1, 1), torch.get_default_dtype())) if tensor.numel() else tensor


def _tensor(label: str, values: Any) -> tuple[Tensor, bool]:
    """The values with all digits, and whether their dtype may still be chosen, as for integers and lists."""
    dtype_is_open = False
    if not isinstance(values, Tensor):
        dtype_is_open = not hasattr(values, "__array__")
        values = torch.from_numpy(_array(label, values))
    if values.layout != torch.strided or values.device.type == "meta":
        raise ValueError(f"expected {label} to be a dense tensor, got layout {values.layout} on {values.device}")
    if values.is_floating_point():
        if values.dtype not in FLOATS:
            raise ValueError(f"expected {label} of a dtype that torch computes in, got {values.dtype}")
        return values, dtype_is_open
    if values.is_complex() or values.is_quantized:
        raise ValueError(f"expected {label} to be real numbers, got dtype {values.dtype}")
    if values.dtype == torch.uint64:
        values = torch.from_numpy(_array(label, values.cpu().numpy())).to(values.device)
    return values.long(), True


def _array(label: str, values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"expected {label} without missing values, got {np.ma.count_masked(values)} masked ones")
    try:
        array = np.array(values)  # a copy, so that later changes of the caller's array do not change the table
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected {label} to be a rectangular table of numbers: {error}") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"expected {label} to be real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"expected {label} below 2**63, got {array.max()}")
    return array.astype(np.int64)  # torch computes little with unsigned integers


def _dtype(label: str, values: Tensor, names: tuple[str, ...], dtype_is_open: bool) -> torch.dtype:
    """The dtype of the values, or the default dtype, or float64 if the default dtype would lose some of them."""
    if not dtype_is_open:
        return values.dtype
    dtype = holding(as_columns(values), torch.get_default_dtype())
    if not values.is_floating_point():
        refuse_damage(as_columns(values), names, dtype, f" of {label}")
    return dtype


def _hint(x: Tensor) -> str:
    return "; use x[:, None] for one feature" if x.ndim == 1 else ""


def _names(label: str, names: Sequence[str] | None, count: int, default: list[str]) -> tuple[str, ...]:
    if names is None:
        return DefaultNames(default)
    ordered = not isinstance(names, str | Mapping) and hasattr(names, "__getitem__")
    if not ordered or getattr(names, "ndim", 1) != 1 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected {label}_names to be a sequence of strings, got {names!r}")
    if len(names) != count:
        raise ValueError(f"expected {count} names in {label}_names, got {len(names)}: {list(names)}")
    return names if isinstance(names, DefaultNames) else tuple(names)


def _check_finite(label: str, values: Tensor, names: tuple[str, ...]) -> None:
    columns = as_columns(values)
    bad = ~torch.isfinite(columns)
    if not bad.any():
        return
    column = int(bad.any(0).int().argmax())
    rows = bad[:, column].nonzero()[:, 0]
    raise ValueError(
        f"expected finite values in {label}, got {len(rows)} of {len(values)} not finite in column "
        f"'{names[column]}', the first in row {int(rows[0])}"
    )
