"""Frames and Observations as arguments of a model, and the names of their columns."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import xarray as xr

from posterity.data import Observations
from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.tables import (
    Columns,
    column_names,
    expand_observations,
    names_from_attrs,
    names_to_attrs,
    order_as_fitted,
    read_table,
    read_tables,
)

FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
COLUMNS = {"dose": [1.0, 2.0, 3.0], "age": [30, 20, 40]}
VALUES = torch.tensor([[1.0, 30.0], [2.0, 20.0], [3.0, 40.0]], dtype=torch.float64)


@pytest.mark.parametrize("library", FRAMES)
def test_a_frame_becomes_floats_with_names(library):
    table = read_table(FRAMES[library](COLUMNS), "argument 0")
    assert table.names == ("dose", "age")
    torch.testing.assert_close(table.values, VALUES)
    single = read_table(FRAMES[library]({"a": np.float32([1, 2])}), "argument 0")
    assert single.values.dtype == torch.float32
    assert single.values.shape == (2, 1)


@pytest.mark.parametrize("library", FRAMES)
def test_arguments_of_all_kinds_are_read_together(library):
    frame = FRAMES[library]({**COLUMNS, "y": [1, 0, 1]})
    x, y = read_arguments((frame[["dose", "age"]], frame["y"]))
    torch.testing.assert_close(x, VALUES)
    assert y.tolist() == [1, 0, 1]
    assert y.dtype == torch.int64  # classes stay whole numbers


@pytest.mark.parametrize("library", FRAMES)
def test_categories_and_missing_values_are_refused_by_name(library):
    with pytest.raises(ValueError, match=r"numbers in every column of argument 1, got other values in \['site'\]: Obs"):
        read_tables((None, FRAMES[library]({**COLUMNS, "site": ["a", "b", "a"]})))
    with pytest.raises(ValueError, match=r"argument 0 without missing values, got some in \['age'\]: remove these"):
        read_tables((FRAMES[library]({**COLUMNS, "age": [1.0, None, 2.0]}),))


def test_observations_alone_are_x_and_y():
    data = Observations(VALUES, VALUES[:, 0], ["dose", "age"], ["response"])
    x, y = expand_observations((data,))
    assert (x.names, y.names) == (("dose", "age"), ("response",))
    assert torch.equal(x.values, data.x)
    assert torch.equal(y.values, data.y)
    assert [table.names for table in expand_observations((data,), targets=False)] == [("dose", "age")]
    read = read_arguments((data,))
    assert torch.equal(read[0], data.x)
    assert torch.equal(read[1], data.y)
    unnamed = expand_observations((Observations(VALUES, VALUES[:, 0]),))
    assert [table.names for table in unnamed] == [None, None]
    part = expand_observations((Observations(VALUES, VALUES[:, 0]).subset([0]).to(dtype=torch.float64),))
    assert [table.names for table in part] == [None, None]
    assert expand_observations((VALUES, None)) == (VALUES, None)
    with pytest.raises(ValueError, match="expected an Observations as the only argument by position, got 2 arguments"):
        expand_observations((data, data.y))


def test_names_that_were_given_count_also_where_they_are_those_of_tables_without_names():
    frame = pd.DataFrame({"x0": [1.0, 2.0], "x1": [3.0, 5.0], "y": [0.0, 1.0]})
    read = expand_observations((Observations.from_frame(frame, y="y"),))
    assert [table.names for table in read] == [("x0", "x1"), ("y",)]
    (x,) = order_as_fitted((frame[["x1", "x0"]],), names_to_attrs(read))
    assert x.values.tolist() == [[1, 3], [2, 5]]


def test_names_of_columns():
    assert column_names(pd.Series([1.0], name="dose")) == ("dose",)
    assert column_names(pl.Series("dose", [1.0])) == ("dose",)
    assert column_names(xr.DataArray([1.0], dims="obs", name="dose")) == ("dose",)
    for unnamed in (pd.Series([1.0]), pl.Series([1.0]), np.ones(1), torch.ones(1), None, [1.0], "a"):
        assert column_names(unnamed) is None


def test_names_are_kept_as_text():
    table, column = Columns(VALUES, ("dose", "a, [b]")), pd.Series([1.0], name="y")
    assert names_from_attrs(names_to_attrs((table, column))) == ([("dose", "a, [b]")], ("y",))
    assert names_from_attrs(names_to_attrs((VALUES, table, VALUES, None))) == ([None, ("dose", "a, [b]")], None)
    assert names_from_attrs(names_to_attrs((VALUES, column))) == ([None], ("y",))
    assert all(isinstance(value, str) for value in names_to_attrs((table, column)).values())
    for args in ((), (VALUES,), (VALUES, VALUES), (None,)):
        assert names_to_attrs(args) == {}
        assert names_from_attrs({}) == ([], None)


def test_columns_are_put_in_the_order_of_the_fit():
    attrs = names_to_attrs((Columns(VALUES, ("dose", "age")), VALUES, Columns(VALUES, ("up", "down"))))
    frame = pd.DataFrame(COLUMNS)[["age", "dose"]]
    x, z, y = order_as_fitted((frame, VALUES, pd.DataFrame({"down": [1.0], "up": [2.0]})), attrs)
    torch.testing.assert_close(x.values, VALUES)
    assert x.names == ("dose", "age")
    assert z is VALUES
    assert y.values.tolist() == [[2.0, 1.0]]
    assert order_as_fitted((VALUES,), attrs) == (VALUES,)  # an array has no names
    assert order_as_fitted((frame,), {})[0].names == ("age", "dose")
    with pytest.raises(ValueError, match=r"argument 0 with the columns of the fit, got none of \['age'\] and the "):
        order_as_fitted((frame.rename(columns={"age": "weight"}),), attrs)
    with pytest.raises(ValueError, match=r"argument 0 with the columns of the fit, got the further columns \['w'\]"):
        order_as_fitted((frame.assign(w=1.0),), attrs)
