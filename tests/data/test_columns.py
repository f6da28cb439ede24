"""Fields of a table as numbers."""

import pytest

from posterity.data import read_csv


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
