"""A table along one column, with the other columns fixed."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from posterity.data import Observations
from posterity.inference.plots._slice import slice_table

COLUMNS = {
    "dose": [0.0, 1.0, 4.0, 2.0],
    "age": [30, 20, 50, 44],
    "site": ["b", "a", "b", "c"],
    "male": [True, True, False, True],
}
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}


@pytest.mark.parametrize("library", FRAMES)
def test_a_frame_has_medians_and_the_most_frequent_category(library):
    part = slice_table(FRAMES[library](COLUMNS), "dose", "median", 5)
    assert part.fixed == {"age": 37.0, "site": "b", "male": 1.0}
    np.testing.assert_allclose(part.grid, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(part.values, COLUMNS["dose"])
    assert type(part.table) is FRAMES[library]
    assert [str(name) for name in part.table.columns] == list(COLUMNS)
    assert list(part.table["dose"]) == [0, 1, 2, 3, 4]
    assert list(part.table["site"]) == ["b"] * 5


@pytest.mark.parametrize("library", FRAMES)
def test_the_other_columns_are_those_of_a_row_or_given(library):
    frame = FRAMES[library](COLUMNS)
    assert slice_table(frame, 1, 3, 5).fixed == {"dose": 2.0, "site": "c", "male": 1.0}
    assert slice_table(frame, "age", {"site": "a", "dose": 3.0}, 5).fixed == {"dose": 3.0, "site": "a", "male": 1.0}
    missing = FRAMES[library]({**COLUMNS, "dose": [1.0, None, 3.0, None], "site": [None, "a", "b", "a"]})
    assert slice_table(missing, "age", "median", 5).fixed == {"dose": 2.0, "site": "a", "male": 1.0}


def test_observations_keep_dtype_and_names_and_one_category_at_a_time():
    data = Observations.from_frame(pd.DataFrame({**COLUMNS, "y": [1.0, 2.0, 3.0, 4.0]}), y="y")
    part = slice_table(data, "dose", "median", 3)
    assert part.fixed == {"age": 37.0, "site=a": 0.0, "site=b": 1.0, "site=c": 0.0, "male": 1.0}
    assert part.table.x_names == data.x_names
    assert part.table.x.dtype == data.x.dtype
    assert part.table.x[:, 0].tolist() == [0, 2, 4]
    other = slice_table(data, "dose", {"site": "c"}, 3).fixed
    assert (other["site=b"], other["site=c"]) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"expected at with one of \['site=a', 'site=b', 'site=c'\], got 'site=d'"):
        slice_table(data, "dose", {"site": "d"}, 3)
    with pytest.raises(ValueError, match=r"expected at to name columns of \['dose', 'age', 'male', 'site'\], got"):
        slice_table(data, "dose", {"site=c": 1.0}, 3)
    with pytest.raises(ValueError, match="expected a column of numbers, got the category 'site=a'"):
        slice_table(data, "site=a", "median", 3)


def test_an_array_is_sliced_by_number():
    table = np.array([[0.0, 1.0, 5.0], [2.0, 2.0, 6.0], [4.0, 4.0, 9.0]])
    for data in (table, torch.as_tensor(table)):
        part = slice_table(data, 1, "median", 4)
        np.testing.assert_allclose(part.table, [[2, 1, 6], [2, 2, 6], [2, 3, 6], [2, 4, 6]])
        assert part.name == "x1"


@pytest.mark.parametrize(
    ("column", "at", "message"),
    [
        (
            "weight",
            "median",
            r"expected column to be one of \['dose', 'age', 'site', 'male'\], or its number, got",
        ),
        (4, "median", "expected column to be one of .*, got 4"),
        ("site", "median", "expected a column of numbers, got the category 'site'"),
        ("dose", "mean", "expected at to be \"median\", the number of a row or values by name, got 'mean'"),
        ("dose", 4, "expected at to be a row from 0 to 3, got 4"),
        ("dose", {"weight": 1.0}, r"expected at to name columns of .*, got \['weight'\]"),
        ("dose", {"dose": 1.0}, "expected at without 'dose', the column along which"),
    ],
)
def test_other_columns_are_refused(column, at, message):
    with pytest.raises(ValueError, match=message):
        slice_table(pd.DataFrame(COLUMNS), column, at, 5)


def test_a_column_that_does_not_vary_and_vectors_are_refused():
    with pytest.raises(ValueError, match="expected a column that varies, got 'a', which is 1 in all rows"):
        slice_table(pd.DataFrame({"a": [1.0, 1.0], "b": [1.0, 2.0]}), "a", "median", 5)
    with pytest.raises(ValueError, match=r"expected data with numbers in every column, got none in \['x1'\]"):
        slice_table(np.array([[1.0, np.nan], [2.0, np.nan]]), 0, "median", 5)
    with pytest.raises(ValueError, match=r"expected data as Observations, a frame or an array \(N, D\), got shape"):
        slice_table(np.arange(3.0), 0, "median", 5)


def test_numbers_as_names_of_a_frame_are_names_and_not_places():
    frame = pd.DataFrame([[1.0, 10.0, 100.0], [2.0, 20.0, 300.0]], columns=[2, 1, 0])
    part = slice_table(frame, 0, {1: 5.0}, 3)
    assert part.name == "0"
    assert part.grid.tolist() == [100, 200, 300]
    assert part.fixed == {"2": 1.5, "1": 5.0}
    assert slice_table(frame.to_numpy(), 0, "median", 3).grid.tolist() == [1, 1.5, 2]
