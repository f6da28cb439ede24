"""Frames of pandas and polars as numbers."""

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
