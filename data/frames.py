"""Frames as tables of numbers: categories one-hot with their names, missing values refused by name or imputed."""

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from posterity.validation import LARGEST, check_choice, shown

MISSING = ("refuse", "mean")
REFUSED = (date, time, timedelta, complex, list, tuple, dict, set, np.ndarray, np.datetime64, np.timedelta64)
"""Types of single values that are neither numbers nor categories; NumPy's complex numbers are among ``complex``."""


def is_frame(table: Any) -> bool:
    """Whether ``table`` has columns by name, like a frame of pandas or polars."""
    return hasattr(table, "columns") and hasattr(table, "__getitem__") and not isinstance(table, np.ndarray)


def read_numbers(frame: Any, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers (N, D) of a frame without categories, in float64 or the frame's own floating dtype, and their names.

    Raises:
        ValueError: a column does not hold numbers or has missing values; the message names it, and ``label`` the frame.
    """
    reader = TableReader().fit(frame)
    if reader.categories:
        raise ValueError(
            f"expected numbers in every column of {label}, got other values in {list(reader.categories)}: "
            "Observations.from_frame reads categories"
        )
    missing = [name for name in reader.columns if not column_values(frame, name)[1].all()]
    if missing:
        raise ValueError(
            f"expected {label} without missing values, got some in {missing}: remove these rows, or read the frame "
            "with Observations.from_frame(..., missing='mean')"
        )
    numbers, own = reader.read(frame), np.asarray(frame).dtype
    return numbers.astype(own) if own.kind == "f" and own.itemsize <= 8 else numbers, reader.names


class TableReader:
    """The columns of a frame, learnt by `fit`; `read` returns numbers (N, D) in float64 with the names ``names``.

    A column of numbers or truth values stays one column. Any other column, such as one of text or of pandas' dtype
    "category", becomes one column of zeros and ones for each of its values, with the name "column=value". With
    ``missing="mean"`` a missing number is replaced by the mean of its column in training, and a missing category has
    zeros in all its columns.

    Raises:
        ValueError: ``missing`` is unknown.

    >>> import pandas as pd
    >>> reader = TableReader().fit(pd.DataFrame({"dose": [1.0, 2.0], "site": ["b", "a"]}))
    >>> reader.names
    ('dose', 'site=a', 'site=b')
    >>> reader.read(pd.DataFrame({"dose": [3.0], "site": ["a"]}))
    array([[3., 1., 0.]])
    """

    def __init__(self, missing: str = "refuse") -> None:
        self.missing = check_choice("missing", missing, MISSING)
        self.columns: tuple[str, ...] = ()
        self.categories: dict[str, tuple[Any, ...]] = {}
        self.means: dict[str, float] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of numbers."""
        found: list[str] = []
        for name in self.columns:
            found += [f"{name}={value}" for value in self.categories[name]] if name in self.categories else [name]
        return tuple(found)

    def fit(self, frame: Any) -> "TableReader":
        """Learn names, categories and means.

        Raises:
            ValueError: a name twice, or a column without any value, with dates, complex numbers or lists, or with whole
                numbers that float64 cannot tell apart.
        """
        self.columns = tuple(str(name) for name in frame.columns)
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"expected a different name for each column, got {list(self.columns)}")
        for name in self.columns:
            values, there = column_values(frame, name)
            if not there.any():
                raise ValueError(f"expected values in column {name!r}, got none")
            if values.dtype.kind == "f":
                self.means[name] = float(values[there].mean())
            else:
                self.categories[name] = tuple(
                    sorted(set(values[there].tolist()), key=lambda value: (str(type(value)), value))
                )
        return self

    def read(self, frame: Any) -> np.ndarray:
        """Numbers (N, D) of a frame with the columns of `fit`, in any order.

        Raises:
            ValueError: a column is absent, has a value that is not a number or a new category, or has missing values
                with ``missing="refuse"``; the message names it.
        """
        absent = [name for name in self.columns if name not in {str(column) for column in frame.columns}]
        if absent:
            raise ValueError(f"expected the columns {list(self.columns)}, got none of {absent}")
        parts = []
        for name in self.columns:
            values, there = column_values(frame, name)
            if not there.all() and self.missing == "refuse":
                raise ValueError(
                    f"expected no missing values in column {name!r}, got {int((~there).sum())}: remove these rows, or "
                    "set missing='mean'"
                )
            parts.append(
                self._one_hot(name, values, there) if name in self.categories else self._numbers(name, values, there)
            )
        return np.concatenate(parts, 1)

    def _numbers(self, name: str, values: np.ndarray, there: np.ndarray) -> np.ndarray:
        if values.dtype.kind != "f":
            raise ValueError(f"expected numbers in column {name!r}, as in training, got {shown(values[there][0])}")
        infinite = int(np.isinf(values[there]).sum())
        if infinite:
            raise ValueError(f"expected finite numbers in column {name!r}, got {infinite} that are infinite")
        return np.where(there, values, self.means[name])[:, None]

    def _one_hot(self, name: str, values: np.ndarray, there: np.ndarray) -> np.ndarray:
        known = self.categories[name]
        new = set(values[there].tolist()) - set(known)
        if new:
            raise ValueError(f"expected categories {list(known)} in column {name!r}, got {sorted(map(str, new))}")
        return np.array(
            [[float(here and value == one) for one in known] for value, here in zip(values, there, strict=True)]
        )


def column_values(frame: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) of a column, floats or objects, and which of them are there."""
    column = next(frame[label] for label in frame.columns if str(label) == name)
    category = str(getattr(column, "dtype", "")) == "category"  # of pandas, which may name categories by numbers
    values = np.asarray(
        column.astype(object) if category else column.to_numpy() if hasattr(column, "to_numpy") else column
    )
    if values.ndim != 1:
        raise ValueError(f"expected one column {name!r}, got values of shape {values.shape}")
    if values.dtype.kind in "Mmc":
        raise _refusal(name, values.dtype)
    if values.dtype.kind in "fiub":
        return _exact(name, values, numbers := values.astype(np.float64)), ~np.isnan(numbers)
    values = values.astype(object)
    refused = next((type(value).__name__ for value in values if _is_refused(value, category)), None)
    if refused is not None:
        raise _refusal(name, refused)
    there = np.array([not _is_missing(value) for value in values], bool)
    numeric = all(isinstance(value, int | float | Decimal | np.number | np.bool_) for value in values[there])
    if not there.any() or (numeric and not category):  # columns of pandas with missing whole numbers
        numbers = np.array([float(value) if here else np.nan for value, here in zip(values, there, strict=True)])
        return _exact(name, values[there], numbers), there
    return values, there


def _is_refused(value: Any, category: bool) -> bool:
    """Whether a value is neither number nor category; a date that is called a category is one."""
    kind = type(value).__name__
    return kind == "Period" or (
        isinstance(value, REFUSED) and kind != "NaTType" and not (category and kind == "Timestamp")
    )


def _refusal(name: str, kind: Any) -> ValueError:
    return ValueError(f"expected numbers or categories in column {name!r}, got {kind}: convert it to numbers")


def _exact(name: str, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """``numbers``, the ``values`` in float64; refused if different whole numbers are equal there."""
    if values.dtype.kind in "iuO" and (np.abs(numbers) >= LARGEST).any():
        different, kept = len(set(values.tolist())), len(set(numbers[~np.isnan(numbers)].tolist()))
        if kept < different:
            raise ValueError(
                f"expected numbers that float64 can tell apart in column {name!r}, got {different} different ones, of "
                f"which {kept} would be left: subtract an offset, or make identifiers text"
            )
    return numbers


def _is_missing(value: Any) -> bool:
    """None, nan, or the missing value of pandas, which is not equal to itself and has no truth value."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)
