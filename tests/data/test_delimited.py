"""Text files of rows and fields: quotes, encodings, and errors with their line."""

import gzip

import pytest

from posterity.data import read_csv


def test_quoted_fields_may_hold_line_ends(table):
    path = table('note,a,b\n"two\nlines",1,2\nx,3,oops\n')
    with pytest.raises(ValueError, match="the text 'oops' in line 4 of"):
        read_csv(path, "a", "b")


def noted(notes: dict[int, str], *, last: bool = False) -> str:
    header = "a,b,note" if last else "id,note,a,b"
    rows = [f"{i},{i * i},{notes.get(i, 'n')}" if last else f"k{i},{notes.get(i, 'n')},{i},{i * i}" for i in range(101)]
    return "\n".join([header, *rows]) + "\n"


STRAYS = {
    "never closed": (
        {50: '"n'},
        r"expected a closing quote, got none .* opens in line 52 of .*mine.csv, column 'note'",
    ),
    "never closed in the last row": ({100: '"n'}, "opens in line 102 of .*, column 'note'"),
    "closed inside a field of a later row": (
        {50: '"n', 60: 'n"n'},
        "got other text in line 62, .* opens in line 52 of",
    ),
    "closed at the end of a later field": (
        {50: '"n', 60: 'n"'},
        "got one quoted field in lines 52 to 62 of .* with 11 lines in it that read as rows: .* opens in line 52",
    ),
    "closed in the next row": ({50: '"n', 51: 'n"'}, "one quoted field in lines 52 to 53 of .* opens in line 52"),
    "after a quoted field": ({49: '"n, ""m"""', 50: '"n'}, "opens in line 52 of"),
    "a quoted field, then more": ({50: '"n" n'}, "got other text in line 52, .* opens in line 52"),
}


@pytest.mark.parametrize("last", [False, True], ids=["inner column", "last column"])
@pytest.mark.parametrize("kind", STRAYS)
def test_a_stray_quote_swallows_no_rows(table, kind, last):
    notes, message = STRAYS[kind]
    with pytest.raises(ValueError, match=message):
        read_csv(table(noted(notes, last=last)), "a", "b")


def test_a_stray_quote_in_the_header_swallows_no_rows(table):
    with pytest.raises(ValueError, match=r"one quoted field in lines 1 to 2 .* a stray quote opens in line 1"):
        read_csv(table('a,b,"note\n1,2,n"\n3,4,n\n5,6,n\n'), "a", "b")


def test_quotes_that_mean_what_they_say_are_read(table):
    notes = {3: '"two\nlines, and commas"', 5: '5" pipe', 7: '"he said ""no"""', 9: '""', 11: '"1,2\n3"'}
    for last in (False, True):
        data = read_csv(table(noted(notes, last=last)), "a", "b")
        assert data.x[:, 0].tolist() == list(range(101))
    assert read_csv(table('"dose\n(mg)",score\n1,2\n3,4\n'), "dose\n(mg)", "score").y.tolist() == [2, 4]


def test_a_field_without_end_is_refused(table):
    text = "a,note,b\n1,n,2\n3," + 140_000 * "n" + ",4\n"
    with pytest.raises(ValueError, match=r"at most 131072 characters, got a longer one in line 3 of .*, column 'note'"):
        read_csv(table(text), "a", "b")
    with pytest.raises(
        ValueError, match=r"a longer one in line 2 of .*, column 'note': check for a quote that is not closed"
    ):
        read_csv(table('a,note,b\n1,"n,2\n' + 30_000 * "3,n,4\n"), "a", "b")


TEXT = "größe;dose\n1,5;2,25\n-3,5;1e1\n"


FILES = {
    "utf-8": (TEXT.encode(), None),
    "utf-8 with a mark": (TEXT.encode("utf-8-sig"), None),
    "utf-8 with a mark, named": (TEXT.encode("utf-8-sig"), "utf-8"),
    "utf-16": (TEXT.encode("utf-16"), None),
    "utf-16, big end first": (b"\xfe\xff" + TEXT.encode("utf-16-be"), None),
    "utf-32": (TEXT.encode("utf-32"), None),
    "utf-16 without a mark": (TEXT.encode("utf-16-le"), "utf-16-le"),
    "latin-1": (TEXT.encode("latin-1"), "latin-1"),
    "gzip": (gzip.compress(TEXT.encode()), None),
    "gzip of latin-1": (gzip.compress(TEXT.encode("latin-1")), "latin-1"),
    "line ends of Windows": (TEXT.replace("\n", "\r\n").encode(), None),
    "line ends of an old Mac": (TEXT.replace("\n", "\r").encode(), None),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind_hold_the_same_table(kind, tmp_path):
    contents, encoding = FILES[kind]
    path = tmp_path / ("mine.csv.gz" if "gzip" in kind else "mine.csv")
    path.write_bytes(contents)
    data = read_csv(path, "größe", "dose", delimiter=";", decimal=",", encoding=encoding)
    assert (data.x.tolist(), data.y.tolist(), data.name) == ([[1.5], [-3.5]], [2.25, 10], "mine")


UNREADABLE = {
    "latin-1 as UTF-8": (
        TEXT.encode("latin-1"),
        {},
        "mine.csv in the encoding utf-8, got invalid bytes in line 1, .* 3",
    ),
    "a later line": (b"a,b\n1,2\n3,\xe9\n", {}, r"line 3, character 3: give its encoding, such as 'latin-1' or"),
    "utf-16 as utf-8": (TEXT.encode("utf-16"), {"encoding": "utf-8"}, "line 1, character 1: .* such as 'utf-16'"),
    "utf-16 as latin-1": (
        TEXT.encode("utf-16"),
        {"encoding": "latin-1"},
        "mine.csv to be text in latin-1, got a NUL",
    ),
    "utf-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), {}, "got a NUL in line 1: .* such as 'utf-16-le'"),
    "half a character of utf-16": (
        "a,b\n1,2\n".encode("utf-16")[:-1],
        {},
        "the encoding utf-16, got invalid bytes in line 2",
    ),
    "no encoding": (b"a,b\n", {"encoding": "klingon"}, "expected an encoding that Python knows, got 'klingon'"),
    "not of text": (b"a,b\n", {"encoding": "hex"}, "expected an encoding that Python knows, got 'hex'"),
    "a number": (b"a,b\n", {"encoding": 8}, "expected encoding as a name or None, got 8"),
    "a spreadsheet": (b"PK\x03\x04....", {}, "mine.csv to be a text file, got a ZIP archive, as .xlsx files are"),
    "numbers in binary": (bytes(range(128)), {}, "mine.csv to be text in utf-8, got a NUL in line 1"),
    "a broken gzip": (gzip.compress(TEXT.encode())[:-9], {}, "expected a whole gzip file, got .*mine.csv"),
    "nothing": (b"", {}, "expected a header in the first line of .*mine.csv, got none"),
    "a mark alone": (b"\xef\xbb\xbf", {}, "expected a header in the first line"),
    "blank lines": (b"\n \n", {}, "expected a header in the first line"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_files_that_cannot_be_read_are_named_with_the_place(kind, tmp_path):
    contents, settings, message = UNREADABLE[kind]
    path = tmp_path / "mine.csv"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_csv(path, "a", "b", **settings)
