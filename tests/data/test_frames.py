"""Frames of pandas and polars as numbers."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from posterity.data.frames import TableReader, is_frame, read_numbers

COLUMNS = {
    "dose": [1.0, 2.0, 4.0],
    "count": [3, 1, 2],
    "treated": [True, False, True],
    "site": ["b", "a", "b"],
}
EXPECTED = np.array([[1, 3, 1, 0, 1], [2, 1, 0, 1, 0], [4, 2, 1, 0, 1]], float)
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}


@pytest.mark.parametrize("library", FRAMES)
def test_numbers_stay_and_categories_become_columns_with_their_names(library):
    frame = FRAMES[library](COLUMNS)
    assert is_frame(frame)
    reader = TableReader().fit(frame)
    assert reader.names == ("dose", "count", "treated", "site=a", "site=b")
    assert np.array_equal(reader.read(frame), EXPECTED)
    other = FRAMES[library]({name: COLUMNS[name][::-1] for name in reversed(COLUMNS)})
    assert np.array_equal(reader.read(other), EXPECTED[::-1])  # by name, in any order


@pytest.mark.parametrize("library", FRAMES)
def test_missing_values_are_refused_by_name_or_imputed_on_request(library):
    frame = FRAMES[library](COLUMNS | {"dose": [1.0, None, 4.0], "site": ["b", None, "a"]})
    with pytest.raises(ValueError, match="expected no missing values in column 'dose', got 1: remove these rows"):
        TableReader().fit(frame).read(frame)
    with pytest.raises(ValueError, match="column 'site'"):
        TableReader().fit(frame).read(FRAMES[library](COLUMNS | {"site": ["b", None, "a"]}))
    read = TableReader(missing="mean").fit(frame).read(frame)
    assert np.array_equal(read[:, 0], [1.0, 2.5, 4.0])
    assert np.array_equal(read[:, 3:], [[0, 1], [0, 0], [1, 0]])


def test_whole_numbers_with_missing_values_of_pandas():
    frame = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64"), "kind": pd.Categorical(["x", "y", "x"])})
    read = TableReader(missing="mean").fit(frame).read(frame)
    assert np.array_equal(read, [[1, 1, 0], [2, 0, 1], [3, 1, 0]])


def test_missing_values_in_every_column_type_of_pandas():
    """pd.NA has no truth value, None and nan are other objects, and columns of objects mix them."""
    columns = {
        "text": pd.array(["a", None, "b"], dtype="string"),
        "flag": pd.array([True, None, False], dtype="boolean"),
        "any": pd.Series(["a", pd.NA, np.nan], dtype=object),
    }
    for name, column in columns.items():
        with pytest.raises(ValueError, match=f"expected no missing values in column '{name}', got [12]"):
            TableReader().fit(pd.DataFrame({name: column})).read(pd.DataFrame({name: column}))


@pytest.mark.parametrize("library", FRAMES)
def test_decimals_are_numbers_and_not_one_category_each(library):
    frame = FRAMES[library]({"price": [Decimal("1.50"), Decimal("2.25"), None]})
    reader = TableReader(missing="mean").fit(frame)
    assert reader.names == ("price",)
    assert np.array_equal(reader.read(frame), [[1.5], [2.25], [1.875]])


def test_numbers_that_pandas_calls_categories_are_categories():
    frame = pd.DataFrame({"ward": pd.Categorical([30, 10, 30])})
    reader = TableReader().fit(frame)
    assert reader.names == ("ward=10", "ward=30")
    assert np.array_equal(reader.read(pd.DataFrame({"ward": [10, 30]})), [[1, 0], [0, 1]])
    with_missing = pd.DataFrame({"ward": pd.Categorical([30, None, 10])})
    assert TableReader(missing="mean").fit(with_missing).names == ("ward=10", "ward=30")
    with pytest.raises(ValueError, match=r"expected numbers in every column of x, got other values in \['ward'\]"):
        read_numbers(frame, "x")


DATES = {
    "date": [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)],
    "zone": pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("UTC"),
    "month": pd.period_range("2026-01", periods=2, freq="M"),
    "time": [datetime.time(1), datetime.time(2)],
    "span": pd.Series([datetime.timedelta(1), datetime.timedelta(2)], dtype=object),
    "complex": pd.Series([1j, 2.0], dtype=object),
    "list": [[1, 2], [3, 4]],
}


@pytest.mark.parametrize("kind", DATES)
def test_objects_that_are_neither_numbers_nor_categories_are_refused(kind):
    with pytest.raises(ValueError, match="expected numbers or categories in column 'a', got"):
        TableReader().fit(pd.DataFrame({"a": DATES[kind]}))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "object"])
def test_whole_numbers_that_float64_cannot_tell_apart_are_refused(dtype):
    frame = pd.DataFrame({"id": pd.Series([2**60, 2**60 + 1], dtype=dtype), "a": [1.0, 2.0]})
    for read in (lambda: TableReader().fit(frame), lambda: read_numbers(frame, "x")):
        with pytest.raises(ValueError, match="float64 can tell apart in column 'id', got 2 different ones, of which 1"):
            read()
    apart = pd.DataFrame({"id": pd.Series([2**60, 2**61], dtype=dtype)})
    assert np.array_equal(read_numbers(apart, "x")[0], [[2.0**60], [2.0**61]])


def test_a_later_frame_with_a_column_twice_is_refused():
    later = pd.DataFrame([[1.0, 9.0]], columns=["a", "a"])
    with pytest.raises(ValueError, match="expected one column 'a', got values of shape"):
        TableReader().fit(pd.DataFrame({"a": [1.0, 2.0]})).read(later)


def test_an_array_is_not_a_frame():
    assert not is_frame(np.zeros((2, 2)))
    assert not is_frame([[1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TableReader("drop"), "missing"),
        (
            lambda: TableReader().fit(pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"])),
            "a different name for",
        ),
        (lambda: TableReader().fit(pd.DataFrame({"a": [np.nan, np.nan]})), "expected values in column 'a', got none"),
        (lambda: fitted().read(pd.DataFrame({"dose": [1.0]})), r"got none of \['count', 'treated', 'site'\]"),
        (lambda: changed(site=["c"]), r"expected categories \['a', 'b'\] in column 'site', got \['c'\]"),
        (lambda: changed(dose=["many"]), "expected numbers in column 'dose', as in training, got 'many'"),
        (
            lambda: TableReader().fit(pd.DataFrame({"day": pd.to_datetime(["2026-01-01"])})),
            "numbers or categories in .*'day'",
        ),
        (lambda: changed(dose=[np.inf]), "expected finite numbers in column 'dose', got 1"),
    ],
)
def test_bad_frames_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def fitted():
    return TableReader().fit(pd.DataFrame(COLUMNS))


def changed(**columns):
    return fitted().read(pd.DataFrame({name: values[:1] for name, values in COLUMNS.items()} | columns))


@pytest.mark.parametrize("library", FRAMES)
def test_a_frame_of_numbers_alone(library):
    frame = FRAMES[library]({name: COLUMNS[name] for name in ("dose", "count", "treated")})
    numbers, names = read_numbers(frame, "x")
    assert np.array_equal(numbers, EXPECTED[:, :3])
    assert names == ("dose", "count", "treated")
    assert read_numbers(FRAMES[library]({"a": np.float32([1, 2])}), "x")[0].dtype == np.float32
    with pytest.raises(ValueError, match=r"expected numbers in every column of x, got other values in \['site'\]"):
        read_numbers(FRAMES[library](COLUMNS), "x")
    with pytest.raises(ValueError, match=r"expected x without missing values, got some in \['dose'\]"):
        read_numbers(FRAMES[library]({"dose": [None, 1.0]}), "x")


@pytest.mark.parametrize("library", FRAMES)
def test_a_later_column_without_any_value_is_imputed(library):
    """None alone has no type of its own: pandas reads it as objects."""
    reader = TableReader(missing="mean").fit(FRAMES[library](COLUMNS))
    later = FRAMES[library](COLUMNS | {"dose": [None] * 3, "site": [None] * 3})
    if library == "pandas":
        later = later.astype({"dose": object, "site": object})
    assert np.array_equal(reader.read(later)[:, [0, 3, 4]], [[7 / 3, 0, 0]] * 3)
