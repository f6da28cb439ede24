"""Strict reading of text files of rows and fields: bytes to text, text to rows, with the line in every error.

Python's csv module parses. It silently closes an open quote at the end of the file, and a stray pair of quotes makes
it merge the rows between them; this module refuses both. Fields are text, and `posterity.data.tables` converts them.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from posterity.data.fetch import gunzip
from posterity.validation import check_choice

MARKS = (  # byte-order marks; UTF-32 before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BINARY = {
    b"PK\x03\x04": "a ZIP archive, as .xlsx files are",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF file",
}


class Row(NamedTuple):
    """The fields of one row and its lines in the file; ``first`` counts from 1."""

    fields: list[str]
    first: int
    lines: list[str]

    def place(self, path: Path) -> str:
        """The lines and the file, for messages."""
        last = self.first + len(self.lines) - 1
        lines = f"line {last}" if last == self.first else f"lines {self.first} to {last}"
        return f"{lines} of {path}"


def check_marks(delimiter: Any, decimal: Any) -> None:
    """``ValueError`` unless the delimiter is one character that occurs in no number, and decimal is "." or ","."""
    check_choice("decimal", decimal, (".", ","))
    single = isinstance(delimiter, str) and len(delimiter) == 1
    if not single or delimiter.isalnum() or delimiter in '"+-_\r\n\0':
        raise ValueError(f"expected delimiter to be one character that occurs in no number or quote, got {delimiter!r}")
    if delimiter == decimal:
        raise ValueError(
            f"expected different characters for delimiter and decimal, got {decimal!r} for both: files with decimal "
            "commas mostly have delimiter=';'"
        )


def read_text(path: Path, encoding: str | None) -> str:
    """The text of a file, plain or gzip-compressed; without ``encoding`` in UTF-8, or that of a byte-order mark.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an unknown encoding, bytes that are invalid in it (with their line), or a binary file.
    """
    contents = gunzip(path)
    for start, kind in BINARY.items():
        if contents.startswith(start):
            raise ValueError(f"expected {path} to be a text file, got {kind}")
    marked = next((name for mark, name in MARKS if contents.startswith(mark)), "utf-8")
    if encoding is not None and (not isinstance(encoding, str) or "\0" in encoding):
        raise ValueError(f"expected encoding to be a name or None, got {encoding!r}")
    chosen = encoding or marked
    try:
        text = contents.decode(chosen)
    except LookupError as error:
        raise ValueError(f"expected an encoding that Python knows, got {encoding!r}: {error}") from error
    except UnicodeError as error:
        before = contents[: getattr(error, "start", 0)].decode(chosen, "ignore")
        place = f"line {_line(before)}, character {len(before) - _line_start(before) + 1}"
        hint = "'utf-16'" if encoding is not None and marked != "utf-8" else "'latin-1' or 'utf-16'"
        raise ValueError(
            f"expected {path} in the encoding {chosen}, got invalid bytes in {place}: give its encoding, such as {hint}"
        ) from error
    if "\0" in text:
        line = _line(text[: text.index("\0")])
        raise ValueError(
            f"expected {path} to be text in {chosen}, got a NUL in line {line}: a binary file, or another encoding, "
            "such as 'utf-16-le'"
        )
    return text.removeprefix("\ufeff")


def rows(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    """The rows of a text, header first, without blank lines.

    Raises:
        ValueError: a quote that is not closed, text after a closing quote, or a field that is too long.
    """
    lines = list(io.StringIO(text, newline=""))  # lines end with \n, \r\n or \r only, as in a spreadsheet
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _refused(error, Row(header, first, lines[first - 1 : reader.line_num]), path, delimiter) from error
        if len(fields) > 1 or (fields and fields[0].strip()):
            header = header or fields
            yield Row(fields, first, lines[first - 1 : reader.line_num])


def refuse_swallowed(
    row: Row, path: Path, delimiter: str, is_row: Callable[[list[str]], bool], *, header: bool = False
) -> None:
    """``ValueError`` if two lines of a row, or one line below the header, are rows when quotes are read as text.

    This indicates two stray quotes. A field that properly contains line ends leaves incomplete rows in each line.
    """
    if len(row.lines) == 1:
        return
    matches = [is_row(line.rstrip("\r\n").split(delimiter)) for line in row.lines]
    if sum(matches[1:] if header else matches) >= (1 if header else 2):
        number, _ = _last_quote(row.lines, delimiter)
        raise ValueError(
            f"expected a row in every line, got one quoted field in {row.place(path)} with {sum(matches)} lines in it "
            f"that read as rows: a stray quote opens in line {row.first + number}"
        )


def _refused(error: csv.Error, row: Row, path: Path, delimiter: str) -> ValueError:
    """The error of csv with the line and column of the quoted field it was in; ``row.fields`` is the header."""
    place, field = _last_quote(row.lines, delimiter)
    column = repr(row.fields[field].strip()) if field < len(row.fields) else str(field + 1)
    opened = f"line {row.first + place} of {path}, column {column}"
    if "limit" in str(error):
        return ValueError(
            f"expected fields of at most {csv.field_size_limit()} characters, got a longer one in {opened}: check for "
            "a quote that is not closed"
        )
    if "end of data" in str(error):
        return ValueError(f"expected a closing quote, got none before the end for the quote that opens in {opened}")
    last = row.first + len(row.lines) - 1
    return ValueError(
        f"expected {delimiter!r} or the end of the line after a closing quote, got other text in line {last}, after "
        f"the quote that opens in {opened}: a stray quote, or a quote inside a quoted field, which must be doubled"
    )


def _last_quote(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Line and field, from 0, of the last opening quote, or of the longest field if there is no open quote."""
    opened, field = None, 0
    quoted, begins, closed = False, True, False  # inside quotes; before the first character; after a closing quote
    for place, line in enumerate(lines):
        for character in line:
            if character == '"' and (quoted or begins or closed):
                opened = (place, field) if begins else opened
                quoted, begins, closed = not quoted, False, quoted  # a doubled quote closes and opens again
            elif character == delimiter and not quoted:
                field, begins, closed = field + 1, True, False
            else:
                begins = closed = False
    lengths = [len(text) for text in lines[0].split(delimiter)]
    return opened or (0, lengths.index(max(lengths)))


def _line(before: str) -> int:
    """The number of the line after a text."""
    return len(before.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _line_start(before: str) -> int:
    return max(before.rfind("\n"), before.rfind("\r")) + 1
