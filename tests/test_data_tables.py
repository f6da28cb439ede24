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


@pytest.fixture
def table(tmp_path):
    def write(text: str):
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


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


def test_quoted_fields_may_hold_line_ends(table):
    path = table('note,a,b\n"two\nlines",1,2\nx,3,oops\n')
    with pytest.raises(ValueError, match="the text 'oops' in line 4 of"):
        read_csv(path, "a", "b")


@pytest.mark.parametrize(
    ("text", "x", "y", "message"),
    [
        (GOOD, ["weight"], "score", r"which are \['id', 'age', 'dose', 'note', 'score'\], got \['weight'\]"),
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
        ("a,b\n1,2\n3,1e300\n", "a", "b", "1 of 2 not finite in column 'b'"),
    ],
)
def test_bad_tables_are_refused_with_the_place(table, text, x, y, message):
    with pytest.raises(ValueError, match=message):
        read_csv(table(text), x, y)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "nowhere.csv", "a", "b")
