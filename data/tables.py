"""Real tables: two small classics that are part of the package, and a strict reader of CSV files.

- `mcycle`: noise that depends on x. A model with constant noise fits visibly badly.
- `geyser`: p(y | x) with two modes. A single normal fits visibly badly.
- `read_csv`: refuses fields that would become a NaN, a misread column or a lost row, with their line. pandas reads more
  kinds of files and fills in missing values; `Observations` takes arrays from its tables.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from posterity.data._precision import holding
from posterity.data.columns import Column
from posterity.data.delimited import Row, check_marks, read_text, refuse_swallowed, rows
from posterity.data.fetch import as_path
from posterity.data.observations import Observations, check_dtype, refuse_damage
from posterity.validation import check_flag

_TABLES = Path(__file__).parent / "bundled-tables"


def mcycle() -> Observations:
    """Head acceleration in a simulated motorcycle accident, used to test crash helmets: 133 rows.

    x: time after the impact in ms; y: acceleration in g. The noise is small before the impact is felt and large
    during it. Some times occur more than once. Silverman (1985), J. R. Statist. Soc. B 47, 1-52; R package MASS.

    >>> mcycle()
    Observations(mcycle: 133 rows, x: times, y: accel, torch.float32)
    """
    return replace(read_csv(_TABLES / "mcycle.csv", "times", "accel"), source="Silverman 1985; R package MASS")


def geyser(night_codes: bool = False) -> Observations:
    """Eruptions of Old Faithful, August 1 to 15, 1985: 221 rows, or 299 with the coded ones.

    x: waiting time for the eruption in minutes; y: duration of the eruption in minutes. After a long wait the
    eruption may be short or long; after a short wait it is long. Azzalini and Bowman (1990), Applied Statistics
    39, 357-365; R package MASS.

    Durations at night were noted as short, medium or long, and are coded as 2, 3 and 4 minutes. They are not
    measurements: a density fitted to them grows without bound at three points. The 78 rows with a duration of
    exactly 2, 3 or 4 are left out unless `night_codes` is set. Measured durations of exactly these values cannot be
    distinguished from the codes and are left out, too.

    >>> geyser()
    Observations(geyser: 221 rows, x: waiting, y: duration, torch.float32)
    """
    check_flag("night_codes", night_codes)
    table = read_csv(_TABLES / "geyser.csv", "waiting", "duration")
    if not night_codes:
        table = table.subset((table.y != 2) & (table.y != 3) & (table.y != 4))
    return replace(table, source="Azzalini and Bowman 1990; R package MASS")


def read_csv(
    path: str | Path,
    x: str | int | Sequence[str | int],
    y: str | int | Sequence[str | int],
    *,
    delimiter: str = ",",
    decimal: str = ".",
    encoding: str | None = None,
    dtype: torch.dtype | None = None,
) -> Observations:
    """The columns `x` and `y` of a CSV file whose first row names its columns.

    Args:
        path: a text file, plain or compressed by gzip.
        x: the input columns, or a single one: names in the header, or positions counted from 0.
        y: the target column, or several, likewise.
        delimiter: the character that separates the fields.
        decimal: the decimal mark, "." or ",".
        encoding: None for UTF-8, or for UTF-16 and UTF-32 if the file begins with their byte-order mark; otherwise a
            Python encoding, such as "latin-1".
        dtype: dtype of the result; None for torch's default dtype, or float64 if the default would make different
            numbers of a column equal or lose their digits.

    Other columns may hold anything. Blank lines are skipped. Quoted fields may contain line ends.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a column that is not in the header, is there twice, or is requested twice (also in x and in y); a
            row with too few or too many fields; text, a missing value, NaN, infinity or a thousands separator in a
            requested column; a quote that is not closed, or a stray pair of quotes around rows; bytes that are invalid
            in the encoding; no rows; a constant column; a dtype, or even float64, that would make different numbers
            equal. The message gives the file, the line and the column.
    """
    path = as_path("path", path)
    check_marks(delimiter, decimal)
    if dtype is not None:
        check_dtype(dtype)
    asked_x, asked_y = _asked("x", x), _asked("y", y)
    if not asked_x or not asked_y:
        raise ValueError(f"expected at least one column for x and for y, got x={asked_x} and y={asked_y}")
    lines = rows(read_text(path, encoding), path, delimiter)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"expected a header in the first line of {path}, got none")
    header = [name.strip() for name in first.fields]
    if twice := _repeated([name for name in header if name]):
        raise ValueError(f"expected different column names in {path}, got {twice} more than once")
    x_names, y_names = _named("x", asked_x, header, path, decimal), _named("y", asked_y, header, path, decimal)
    wanted = [*x_names, *y_names]
    if twice := _repeated(wanted):
        raise ValueError(f"expected each column once in x and y, got {twice} more than once")

    columns = [Column(name, header.index(name), decimal, path) for name in wanted]
    values = torch.tensor(_numbers(first, lines, columns, path, delimiter), dtype=torch.float64)
    if dtype is None:
        dtype = holding(values, torch.get_default_dtype())
    refuse_damage(values, tuple(wanted), dtype, f" of {path}")
    inputs, targets = values[:, : len(x_names)].to(dtype), values[:, len(x_names) :].to(dtype)
    if len(y_names) == 1:
        targets = targets[:, 0]
    name = Path(path.name.removesuffix(".gz")).stem
    return Observations(inputs, targets, x_names, y_names, name=name, source=str(path))


def _numbers(header: Row, below: Iterator[Row], columns: list[Column], path: Path, delimiter: str) -> list[list[float]]:
    """The numbers of the columns, row by row."""

    def is_row(fields: list[str]) -> bool:
        return len(fields) == len(header.fields) and all(column.fits(fields[column.place]) for column in columns)

    refuse_swallowed(header, path, delimiter, is_row, header=True)
    numbers = []
    for row in below:
        if len(row.fields) != len(header.fields):
            hint = _hint(row.fields[0], delimiter) if len(row.fields) == 1 else ""
            count = len(header.fields)
            raise ValueError(
                f"expected {count} fields in {row.place(path)}, as in the header, got {len(row.fields)}{hint}"
            )
        refuse_swallowed(row, path, delimiter, is_row)
        numbers.append([column.number(row.fields[column.place], row) for column in columns])
    if not numbers:
        raise ValueError(f"expected rows below the header of {path}, got none")
    for place, column in enumerate(columns):
        if len({row[place] for row in numbers}) == 1:
            value = numbers[0][place]
            raise ValueError(f"expected columns that vary, got {value:g} in every row of '{column.name}' of {path}")
    return numbers


def _asked(label: str, columns: Any) -> list[str | int]:
    ordered = not isinstance(columns, str | Mapping) and hasattr(columns, "__getitem__")  # excludes sets
    listed = list(columns) if ordered and getattr(columns, "ndim", 1) == 1 else [columns]
    for column in listed:
        if isinstance(column, bool) or not isinstance(column, str | Integral):
            raise ValueError(f"expected {label} to be names of columns or positions from 0, got {column!r}")
    return [column if isinstance(column, str) else int(column) for column in listed]


def _named(label: str, asked: list[str | int], header: list[str], path: Path, decimal: str) -> list[str]:
    """The names of the requested columns."""
    places = [column for column in asked if isinstance(column, int)]
    if places and all(Column("", 0, decimal, path).fits(name) for name in header):
        raise ValueError(f"expected a header in the first line of {path} to count columns in, got numbers: {header}")
    unknown: list[str | int] = [column for column in asked if isinstance(column, str) and column not in header]
    unknown += [place for place in places if not 0 <= place < len(header)]
    if unknown:
        hint = _hint(header[0], ",") if len(header) == 1 else ""
        raise ValueError(f"expected {label} from the columns {header} of {path}, got {unknown}{hint}")
    return [header[column] if isinstance(column, int) else column for column in asked]


def _hint(line: str, delimiter: str) -> str:
    """A hint to another delimiter, for a line with a single field."""
    other = next((mark for mark in (";", "\t", "|", ",") if mark in line and mark != delimiter), None)
    return f": try delimiter={other!r}" if other else ""


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
