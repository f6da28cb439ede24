"""Tables of observations: names, dtypes, rows, and tables that are refused."""

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from posterity.data import Observations
from tests.test_display import cells


def oracle(x):
    return Normal(2 * x[:, 0], torch.full_like(x[:, 0], 0.5))


@pytest.fixture
def data() -> Observations:
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0]])
    return Observations(x, torch.tensor([0.1, 2.0, 3.5]), ["dose", "age"], ["response"], oracle, "trial", "here")


def test_default_names_follow_the_number_of_columns():
    one = Observations(torch.ones(3, 2), torch.ones(3))
    two = Observations(torch.ones(3, 1), torch.ones(3, 2))
    assert (one.x_names, one.y_names) == (("x0", "x1"), ("y",))
    assert (two.x_names, two.y_names) == (("x0",), ("y0", "y1"))
    assert len(one) == 3


def test_it_is_frozen_and_says_what_it_holds(data):
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.x = torch.zeros(1, 1)
    assert repr(data) == "Observations(trial: 3 rows, x: dose, age, y: response, torch.float32, with oracle)"


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([[1.0], [2.0]], [1.0, 2.0], torch.float32),
        ([[1], [2]], [True, False], torch.float32),
        (np.ones((2, 1)), [1.0, 2.0], torch.float64),
        (np.ones((2, 1), np.float32), np.ones(2), torch.float64),
        (np.ones((2, 1), np.uint16), np.ones(2, np.float32), torch.float32),
        (torch.ones(2, 1, dtype=torch.int64), torch.ones(2, dtype=torch.float64), torch.float64),
        (torch.ones(2, 1, dtype=torch.uint8), torch.ones(2, dtype=torch.bool), torch.float32),
    ],
)
def test_x_and_y_share_a_floating_dtype(x, y, expected):
    data = Observations(x, y)
    assert data.x.dtype == data.y.dtype == expected


def test_a_numpy_array_is_copied_even_where_it_is_read_only():
    x = np.array([[1.0], [2.0]])
    x.flags.writeable = False
    y = np.array([3.0, 4.0])
    data = Observations(x, y)
    y[0] = 99.0
    assert data.y.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            [[2**53], [2**53 + 1]],
            r"holds the values of x, got torch.float64: .* would leave 1 of the 2 different",
        ),
        (np.array([[2**63], [2**63 + 5]], np.uint64), r"expected x below 2\*\*63, got 9223372036854775813"),
        (np.ma.masked_values([[1.0], [2.0]], 2.0), "expected x without missing values, got 1 masked ones"),
        ([torch.ones(1, requires_grad=True), torch.ones(1)], "expected x to be a rectangular table of numbers"),
        (torch.ones(2, 1).to_sparse(), "expected x to be a dense tensor, got layout torch.sparse_coo"),
        (None, "expected x to be real numbers, got dtype object"),
    ],
)
def test_what_no_dtype_can_hold_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        Observations(x, [1.0, 2.0])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.ones(5), torch.ones(5), r"expected x of shape \(N, features\), got \(5,\); use x\[:, None\]"),
        (torch.ones(5, 2, 2), torch.ones(5), r"expected x of shape \(N, features\), got \(5, 2, 2\)"),
        (torch.ones(120, 1), torch.ones(120, 1), r"expected y of shape \(120,\), got \(120, 1\)"),
        (torch.ones(5, 1), torch.ones(4), r"expected y of shape \(5,\), .* got \(4,\)"),
        (torch.ones(5, 1), torch.ones(5, 2, 2), r"expected y of shape \(5,\), .* got \(5, 2, 2\)"),
        (torch.ones(5, 1), torch.ones(5, 0), r"expected y of shape \(5,\), .* got \(5, 0\)"),
        (torch.ones(5, 1), torch.tensor(1.0), r"expected y of shape \(5,\), .* got \(\)"),
        (torch.ones(0, 1), torch.ones(0), r"expected at least one row and one feature, got x of shape \(0, 1\)"),
        (torch.ones(5, 0), torch.ones(5), r"expected at least one row and one feature, got x of shape \(5, 0\)"),
        (
            torch.ones(5, 1, dtype=torch.cfloat),
            torch.ones(5),
            r"expected x to be real numbers, got dtype .*complex64",
        ),
        (np.ones((5, 1)), np.array([None] * 5), "expected y to be real numbers, got dtype object"),
        (np.ones((5, 1)), ["a"] * 5, "expected y to be real numbers, got dtype <U1"),
        ([[1.0], [2.0, 3.0]], [1.0, 2.0], "expected x to be a rectangular table of numbers"),
    ],
)
def test_wrong_tables_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        Observations(x, y)


def test_values_that_are_not_finite_are_counted_and_their_column_named():
    x, y = torch.ones(4, 2), torch.ones(4)
    x[1:3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"in x, got 2 of 4 not finite in column 'age', the first in row 1"):
        Observations(x, y, ["dose", "age"])
    y[3] = -torch.inf
    with pytest.raises(ValueError, match=r"in y, got 1 of 4 not finite in column 'y', the first in row 3"):
        Observations(torch.ones(4, 2), y)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"x_names": ["a"]}, r"expected 2 names in x_names, got 1: \['a'\]"),
        ({"y_names": ["a", "b"]}, "expected 1 names in y_names, got 2"),
        ({"x_names": "ab"}, "expected x_names to be a sequence of strings, got 'ab'"),
        ({"x_names": [0, 1]}, "expected x_names to be a sequence of strings"),
        ({"x_names": ["a", "y"]}, "expected a different name for each column, got 'y' more than once"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        Observations(torch.ones(3, 2), torch.ones(3), **names)


@pytest.mark.parametrize(
    "index", [[0, 2], torch.tensor([0, 2]), np.array([0, 2]), slice(0, 3, 2), torch.tensor([True, False, True])]
)
def test_subset_keeps_rows_names_and_oracle(data, index):
    part = data.subset(index)
    assert part.x.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert part.y.tolist() == [data.y[0].item(), data.y[2].item()]
    assert (part.x_names, part.y_names, part.name, part.source) == (
        ("dose", "age"),
        ("response",),
        "trial",
        "here",
    )
    assert part.oracle is data.oracle


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([], ValueError, "expected at least one row"),
        (slice(3, None), ValueError, "expected at least one row"),
        (1, ValueError, r"one dimension, got shape \(\)"),
        ([0.0, 1.0], ValueError, r"integers or booleans .* got shape \(2,\) and torch.float32"),
        ([0, 3], ValueError, "expected index to have rows from 0 to 2, got 0 to 3"),
        ([True, False], ValueError, "expected index to have 3 booleans, one for each row, got 2"),
        ("ab", ValueError, "index to be integers or booleans, got str"),
        (slice("a"), ValueError, "index to be a slice of whole numbers"),
    ],
)
def test_subset_refuses_what_is_no_list_of_rows(data, index, error, message):
    with pytest.raises(error, match=message):
        data.subset(index)


def test_to_changes_the_dtype_of_both(data):
    wide = data.to(dtype=torch.float64)
    assert wide.x.dtype == wide.y.dtype == torch.float64
    assert wide.oracle_log_prob().dtype == torch.float64
    assert data.to("cpu").x.dtype == torch.float32
    with pytest.raises(ValueError, match=r"expected dtype to be a floating dtype of torch, got torch.int64"):
        data.to(dtype=torch.int64)


def test_oracle_log_prob_is_the_density_of_each_row(data):
    expected = [
        -0.5 * ((y - 2 * x) / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)
        for x, y in zip(data.x[:, 0].tolist(), data.y.tolist(), strict=True)
    ]
    assert data.oracle_log_prob().tolist() == pytest.approx(expected, abs=1e-5)


def test_oracle_log_prob_needs_an_oracle_of_the_right_shape(data):
    with pytest.raises(ValueError, match=r"expected observations with an oracle, got Observations\(3 rows"):
        Observations(data.x, data.y).oracle_log_prob()
    joint = dataclasses.replace(data, oracle=lambda x: MultivariateNormal(torch.zeros(3), torch.eye(3)))
    with pytest.raises(ValueError, match=r"expected log_prob of the oracle of shape \(3,\), got \(\)"):
        joint.oracle_log_prob()


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_from_a_frame(library):
    columns = {"dose": [1.0, 2.0, 4.0], "site": ["a", "b", "a"], "response": [0.1, 0.2, 0.4], "time": [3, 1, 2]}
    data = Observations.from_frame(library(columns), y="response", name="trial")
    assert data.x_names == ("dose", "site=a", "site=b", "time")
    assert data.x.tolist() == [[1, 1, 0, 3], [2, 0, 1, 1], [4, 1, 0, 2]]
    assert data.y.tolist() == columns["response"]
    two = Observations.from_frame(library(columns), x=["time"], y=["response", "dose"])
    assert (two.x_names, two.y_names) == (("time",), ("response", "dose"))
    assert two.y[1].tolist() == [0.2, 2.0]
    holes = library(columns | {"dose": [1.0, None, 4.0]})
    assert Observations.from_frame(holes, y="response", missing="mean").x[1, 0] == 2.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"y": "height"}, r"expected y to be names of columns, of \['dose', 'site', 'hole'\], got \['height'\]"),
        ({"y": "dose", "x": ["age"]}, r"expected x to be names of columns, of .*, got \['age'\]"),
        ({"y": "dose", "x": []}, r"expected x to be names of columns, of .*, got \[\]"),
        ({"y": "site"}, r"expected numbers in y, got other values in \['site'\]"),
        ({"y": "dose"}, "expected no missing values in column 'hole', got 1"),
        ({"y": "hole", "x": ["dose"], "missing": "mean"}, "expected no missing values in column 'hole', got 1"),
        ({"y": "dose", "missing": "drop"}, "missing"),
    ],
)
def test_bad_frames_are_named(settings, message):
    frame = pd.DataFrame({"dose": [1.0, 2.0], "site": ["a", "b"], "hole": [np.nan, 1.0]})
    with pytest.raises(ValueError, match=message):
        Observations.from_frame(frame, **settings)
    with pytest.raises(ValueError, match="expected frame to be a frame of pandas or polars, got ndarray"):
        Observations.from_frame(np.zeros((2, 2)), y="dose")


def test_a_notebook_shows_columns_and_the_first_rows():
    x = torch.arange(14.0).reshape(7, 2)
    data = Observations(x, x[:, 0] ** 2, ["dose", "<age>"], ["response"], name="trial")
    shown = cells(data._repr_html_())
    assert shown[:5] == ["dose", "x", "0", "6", "12"]
    assert shown[5:10] == ["<age>", "x", "1", "7", "13"]
    assert shown[10:15] == ["response", "y", "0", "52", "144"]
    assert shown[15:] == [f"{value:.4g}" for row in x[:5] for value in (*row.tolist(), float(row[0] ** 2))]
    assert "Observations: trial" in data._repr_html_()
    assert "the first of 7 rows" in data._repr_html_()


def test_a_notebook_shows_some_of_many_columns_and_the_target():
    html = Observations(torch.randn(3, 100), torch.randn(3))._repr_html_()
    assert "and 89 more columns" in html
    assert cells(html, "th")[5:] == [*(f"x{i}" for i in range(11)), "y"]


def test_a_frame_with_numbers_as_names():
    frame = pd.DataFrame(np.arange(6.0).reshape(2, 3))
    data = Observations.from_frame(frame, y="2", x=["1", "0"])
    assert data.x_names == ("1", "0")
    assert data.x.tolist() == [[1, 0], [4, 3]]
    assert data.y.tolist() == [2, 5]
