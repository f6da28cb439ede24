"""Fields of a table as numbers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.data import read_csv
from posterity.data.columns import Column
from posterity.data.delimited import Row


def test_numbers_that_float64_would_merge_are_refused(table):
    nanoseconds = "t,v\n" + "".join(f"{1_700_000_000_000_000_000 + 10 * i},{i}\n" for i in range(20))
    with pytest.raises(
        ValueError,
        match=r"numbers that are distinct in float64 in column 't' of line 3 of .*, got '1700000000000000010', "
        "which float64 rounds to the same value as 1700000000000000000: subtract an origin",
    ):
        read_csv(table(nanoseconds), "t", "v")
    text = "a,b\n" + "".join(f"{i / 7:.18e},{i}\n" for i in range(20))  # as numpy.savetxt writes
    assert read_csv(table(text + text[4:]), "a", "b").x[:20, 0].tolist() == pytest.approx([i / 7 for i in range(20)])


def column(decimal: str = ".") -> Column:
    return Column("a", 0, decimal, Path("mine.csv"))


ROW = Row(["1"], 2, ["1\n"])


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{:.17g}", "{:.20e}", " {!r} "]))
def test_a_number_is_read_as_python_reads_it_with_points_or_commas(value, style):
    text = style.format(value)
    assert column().number(text, ROW) == value
    assert column(",").number(text.replace(".", ","), ROW) == value


@pytest.mark.parametrize("text", ["", " NA ", "nan", "NULL", "none", "n/a"])
def test_a_missing_value_fits_a_column_and_is_refused_as_a_number(text):
    assert column().fits(text)
    with pytest.raises(ValueError, match=r"expected a number in column 'a' of line 2 of mine.csv, got the missing"):
        column().number(text, ROW)


@pytest.mark.parametrize(
    ("text", "decimal"), [("x", "."), ("1_000", "."), ("1,5", "."), ("1.234", ","), ("1,2,3", ",")]
)
def test_a_text_is_no_number_and_fits_no_column(text, decimal):
    assert not column(decimal).fits(text)
    with pytest.raises(ValueError, match=r"expected numbers in column 'a', got the text .* in line 2 of mine.csv"):
        column(decimal).number(text, ROW)
