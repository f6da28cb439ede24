"""The bundled tables, and tables read from CSV files."""

import numpy as np
import pytest
import torch

from posterity.data import geyser, mcycle, read_csv


def test_mcycle_is_the_published_table():
    data = mcycle()
    assert data.x.shape == (133, 1)
    assert (data.x_names, data.y_names) == (("times",), ("accel",))
    assert (data.x[0, 0].item(), data.x[-1, 0].item()) == pytest.approx((2.4, 57.6))
    assert (data.y[0].item(), data.y[1].item(), data.y[-1].item()) == pytest.approx((0.0, -1.3, 10.7))
    assert (data.y.min().item(), data.y.max().item()) == (-134.0, 75.0)
    assert data.y.double().mean().item() == pytest.approx(-25.5459, abs=1e-3)
    assert "Silverman" in data.source


def test_mcycle_noise_grows_after_the_impact():
    data = mcycle()
    steps = data.y.diff().abs()
    assert steps[data.x[1:, 0] < 13].mean() < 0.2 * steps[(data.x[1:, 0] > 15) & (data.x[1:, 0] < 45)].mean()


def test_geyser_leaves_the_night_codes_out():
    data, all_rows = geyser(), geyser(night_codes=True)
    assert (len(data), len(all_rows)) == (221, 299)
    assert (data.x_names, data.y_names) == (("waiting",), ("duration",))
    for code, count in ((2, 23), (3, 2), (4, 53)):
        assert int((all_rows.y == code).sum()) == count
        assert not (data.y == code).any()
    assert all_rows.x[:4, 0].tolist() == [80, 71, 57, 80]
    assert all_rows.y[:4].tolist() == pytest.approx([4.0166667, 2.15, 4, 4])
    assert (all_rows.x.min().item(), all_rows.x.max().item()) == (43, 108)


def test_geyser_has_two_modes_after_a_long_wait_and_one_after_a_short_one():
    data = geyser()
    short_wait, long_wait = data.y[data.x[:, 0] < 60], data.y[data.x[:, 0] > 75]
    assert (short_wait > 3).double().mean() > 0.9
    assert (long_wait < 2.5).sum() > 20
    assert (long_wait > 3.5).sum() > 20


GOOD = "id,age,dose,note,score\na,30,0.5,x,1\nb,40,1.5,,2.5\n\nc, 50 ,1e1,z,-3\n"


def test_a_table_of_ones_own(table):
    data = read_csv(table(GOOD), x=["dose", "age"], y="score")
    assert data.x.tolist() == [[0.5, 30], [1.5, 40], [10, 50]]
    assert data.y.tolist() == [1, 2.5, -3]
    assert (data.x_names, data.y_names, data.name) == (("dose", "age"), ("score",), "mine")
    assert data.x.dtype == torch.float32


def test_one_name_two_targets_another_dtype_and_delimiter(table):
    path = table("\ufeffa;b;c\n1;2;3\n4;5;7\n")
    data = read_csv(path, x="a", y=["b", "c"], delimiter=";", dtype=torch.float64)
    assert data.x.tolist() == [[1], [4]]
    assert data.y.tolist() == [[2, 3], [5, 7]]
    assert data.x.dtype == torch.float64


@pytest.mark.parametrize(
    ("text", "x", "y", "message"),
    [
        (
            GOOD,
            ["weight"],
            "score",
            r"expected x from the columns \['id', 'age', 'dose', 'note', 'score'\] of .*, got \['weight'\]",
        ),
        (GOOD, ["age"], "Score", r"got \['Score'\]"),
        (GOOD, ["age", "id"], "score", "expected numbers in column 'id', got the text 'a' in line 2 of"),
        (GOOD, ["age"], "note", "expected numbers in column 'note', got the text 'x' in line 2 of"),
        (GOOD, ["age", "score"], "score", r"expected each column once in x and y, got \['score'\] more than once"),
        (GOOD, ["age", "age"], "score", r"expected each column once in x and y, got \['age'\] more than once"),
        (GOOD, [], "score", r"expected at least one column for x and for y, got x=\[\]"),
        ("a,b\n1,2\n,4\n", "a", "b", "a number in column 'a' of line 3 of .*, got the missing value ''"),
        ("a,b\n1,2\n3,NA\n", "a", "b", "a number in column 'b' of line 3 of .*, got the missing value 'NA'"),
        ("a,b\n1,2\n3,nan\n", "a", "b", "a number in column 'b' of line 3 of .*, got the missing value 'nan'"),
        ("a,b\n1,2\n-inf,4\n", "a", "b", "a finite number in column 'a' of line 3 of .*, got '-inf'"),
        ("a,b\n1,2\n1_000,4\n", "a", "b", "numbers in column 'a', got the text '1_000' in line 3"),
        ("a,b\n1,2\n3\n", "a", "b", "expected 2 fields in line 3 of .*, as in the header, got 1"),
        ("a,b\n1,2\n3,4,5\n", "a", "b", "expected 2 fields in line 3 of .*, as in the header, got 3"),
        ("a,b\n", "a", "b", "expected rows below the header of .*, got none"),
        ("", "a", "b", "expected a header in the first line of .*, got none"),
        ("a,b\n1,2\n1,3\n", "a", "b", "expected columns that vary, got 1 in every row of 'a'"),
        ("a,b\n1,2\n3,2\n", "a", "b", "expected columns that vary, got 2 in every row of 'b'"),
        ("a,b,a\n1,2,3\n", "a", "b", r"expected different column names in .*, got \['a'\] more than once"),
    ],
)
def test_bad_tables_are_refused_with_the_place(table, text, x, y, message):
    with pytest.raises(ValueError, match=message):
        read_csv(table(text), x, y)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "nowhere.csv", "a", "b")


OFFSETS = {
    "seconds since 1970": [1_700_000_000 + 10 * i for i in range(200)],
    "nine digits": [123_456_789 + i for i in range(50)],
    "metres with decimals": [5_412_345.25 + 0.25 * i for i in range(100)],
    "spacings that float32 keeps, digits that it drops": [1e9 + 70.4 * i for i in range(8)],
    "beside a marker far away": [-1, *(1_700_000_000 + 10 * i for i in range(50))],
    "very large": [1e40 * (i + 1) for i in range(5)],
    "very small": [1e-42 * (i + 1) for i in range(5)],
}


@pytest.mark.parametrize("kind", OFFSETS)
def test_numbers_that_float32_would_merge_or_blur_stay_as_they_are_in_the_file(table, kind):
    numbers = OFFSETS[kind]
    path = table("t,v\n" + "".join(f"{number!r},{i % 5}\n" for i, number in enumerate(numbers)))
    as_input, as_target = read_csv(path, "t", "v"), read_csv(path, "v", "t")
    assert as_input.x[:, 0].tolist() == as_target.y.tolist() == numbers
    with pytest.raises(ValueError, match=r"holds the values of .*mine.csv, got torch.float32: .* column 't'"):
        read_csv(path, "t", "v", dtype=torch.float32)


def test_numbers_that_float32_holds_stay_in_float32(table):
    text = "year,temperature\n" + "".join(f"{1990 + i},{293.15 + 0.1 * i:.2f}\n" for i in range(30))
    assert read_csv(table(text), "year", "temperature").x.dtype == torch.float32


def test_no_file_and_no_path(tmp_path):
    for path in (tmp_path / "nowhere.csv", str(tmp_path / "no folder" / "a.csv")):
        with pytest.raises(FileNotFoundError):
            read_csv(path, "a", "b")
    with pytest.raises(ValueError, match="expected a path of a file, got the folder"):
        read_csv(tmp_path, "a", "b")
    for path in (None, 3, b"mine.csv", "a\0b", 5000 * "a"):
        with pytest.raises(ValueError, match="expected path to be a path, got"):
            read_csv(path, "a", "b")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a;b\n1;2\n3;4\n", {}, r"expected x from the columns \['a;b'\] of .*, got \['a'\]: try delimiter=';'"),
        ("a;b\n1;2\n", {"delimiter": ""}, "expected delimiter as one character .* got ''"),
        ("a;b\n1;2\n", {"delimiter": ";;"}, "expected delimiter as one character .* got ';;'"),
        ("a;b\n1;2\n", {"delimiter": None}, "expected delimiter as one character .* got None"),
        ("a;b\n1;2\n", {"delimiter": '"'}, "expected delimiter as one character"),
        ("a1b\n112\n", {"delimiter": "1"}, "expected delimiter as one character"),
        ("a;b\n1;2\n", {"decimal": ""}, "expected decimal '.' or ',', got ''"),
        ("a;b\n1;2\n", {"decimal": ","}, "expected different characters for delimiter and decimal, got ',' for both"),
        ("a;b\n1,5;2\n", {"delimiter": ";"}, r"the text '1,5' in line 2 of .* \(decimal='.', no separators"),
        ("a;b\n1.234;2\n", {"delimiter": ";", "decimal": ","}, "column 'a', got the text '1.234' in line 2 of"),
        ("a;b\n1.234,5;2\n", {"delimiter": ";", "decimal": ","}, "column 'a', got the text '1.234,5' in line 2 of"),
        ('a,b\n"1,234",2\n', {}, "column 'a', got the text '1,234' in line 2 of"),
        (
            "a,b\n1,1e400\n",
            {},
            "a finite number in column 'b' of line 2 of .*, got '1e400', which is out of range for float64",
        ),
        ("a,b\n1,1e-400\n", {}, "that float64 can hold in column 'b' of line 2 of .*, got '1e-400', rounded to 0"),
        ("a,b\n1,2\n", {"dtype": "float32"}, "expected dtype to be a floating dtype of torch, got 'float32'"),
        ("a,b\n1,2\n", {"dtype": torch.int64}, "expected dtype to be a floating dtype of torch, got torch.int64"),
        ("a,b\n1,2\n", {"x": None}, "expected x as names of columns or positions from 0, got None"),
        ("a,b\n1,2\n", {"y": [1.5]}, "expected y as names of columns or positions from 0, got 1.5"),
        ("a,b\n1,2\n", {"x": 2}, r"expected x from the columns \['a', 'b'\] of .*, got \[2\]"),
        ("a,b\n1,2\n", {"x": 1}, r"expected each column once in x and y, got \['b'\] more than once"),
        ("1,2\n3,4\n", {"x": 0, "y": 1}, r"expected a header in the first line of .* to count columns in, got numbers"),
    ],
)
def test_settings_that_do_not_fit_are_named(table, text, settings, message):
    with pytest.raises(ValueError, match=message):
        read_csv(table(text), **({"x": "a", "y": "b"} | settings))


def test_a_few_values_that_a_dtype_would_make_equal_are_named(table):
    path = table("a,b\n1.00000001,1\n1.00000002,2\n1.5,3\n2,4\n")
    with pytest.raises(ValueError, match="would leave 3 of the 4 different values of column 'a', which range"):
        read_csv(path, "a", "b", dtype=torch.float32)
    assert len(read_csv(path, "a", "b").x.unique()) == 4


def test_columns_by_place_and_tabs(table):
    data = read_csv(table("a\tb\tc\n1\t2\tx\n3\t4\ty\n"), 0, [1], delimiter="\t")
    assert (data.x_names, data.y_names, data.y.tolist()) == (("a",), ("b",), [2, 4])
    assert read_csv(table("a,b\n1,2\n3,4\n"), np.array(["a"]), np.int64(1)).y.tolist() == [2, 4]
