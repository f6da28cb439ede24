"""Real tables: two small classics that ship with the package, and a strict reader of CSV files for your own.

- `mcycle`: noise that changes with x. A constant-noise model is visibly wrong.
- `geyser`: two modes of y for one x. A single normal is visibly wrong.
- `read_csv`: refuses what later turns into a NaN or a misread column, and says in which line it is.
"""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from posterity.data.observations import Observations

_TABLES = Path(__file__).parent / "tables"
_MISSING = {"", "na", "n/a", "nan", "null", "none"}


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
    exactly 2, 3 or 4 are left out unless `night_codes` is set (a measured duration that happens to be one of these
    cannot be told apart, and goes with them).

    >>> geyser()
    Observations(geyser: 221 rows, x: waiting, y: duration, torch.float32)
    """
    table = read_csv(_TABLES / "geyser.csv", "waiting", "duration")
    if not night_codes:
        table = table.subset((table.y != 2) & (table.y != 3) & (table.y != 4))
    return replace(table, source="Azzalini and Bowman 1990; R package MASS")


def read_csv(
    path: str | Path,
    x: str | Sequence[str],
    y: str | Sequence[str],
    *,
    delimiter: str = ",",
    dtype: torch.dtype | None = None,
) -> Observations:
    """The columns `x` and `y` of a CSV file whose first row names its columns.

    Args:
        path: a file in UTF-8.
        x: names of the input columns, or the name of the only one.
        y: the name of the target column, or the names of several.
        delimiter: what separates the fields.
        dtype: of the result; None for torch's default, float32 unless told otherwise.

    Columns that are not asked for may hold anything. Blank lines are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name that is not in the header, or is there twice, or is asked for twice (also in x and in
            y); a row with too few or too many fields; text, a missing value, NaN or infinity in a column that is
            asked for, with the line; no rows; a constant column. Columns are named.
    """
    path = Path(path)
    x_names = [x] if isinstance(x, str) else list(x)
    y_names = [y] if isinstance(y, str) else list(y)
    wanted = [*x_names, *y_names]
    if not x_names or not y_names:
        raise ValueError(f"expected at least one column for x and for y, got x={x_names} and y={y_names}")
    if twice := _repeated(wanted):
        raise ValueError(f"expected each column once in x and y, got {twice} more than once")

    with path.open(newline="", encoding="utf-8-sig") as file:  # utf-8-sig: spreadsheets put a byte-order mark in front
        reader = csv.reader(file, delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise ValueError(f"expected a header in the first line of {path}, got none")
        if twice := _repeated([name for name in header if name]):
            raise ValueError(f"expected different column names in {path}, got {twice} more than once")
        if unknown := [name for name in wanted if name not in header]:
            raise ValueError(f"expected columns of {path}, which are {header}, got {unknown}")
        columns = [header.index(name) for name in wanted]

        rows = []
        for fields in reader:
            if not fields:
                continue
            where = f"line {reader.line_num} of {path}"
            if len(fields) != len(header):
                raise ValueError(f"expected {len(header)} fields in {where}, as in the header, got {len(fields)}")
            rows.append([_number(fields[i], header[i], where) for i in columns])

    if not rows:
        raise ValueError(f"expected rows below the header of {path}, got none")
    for column, name in enumerate(wanted):
        if len({row[column] for row in rows}) == 1:
            raise ValueError(f"expected columns that vary, got {rows[0][column]:g} in every row of '{name}' of {path}")
    values = torch.tensor(rows, dtype=dtype or torch.get_default_dtype())
    inputs, targets = values[:, : len(x_names)], values[:, len(x_names) :]
    if len(y_names) == 1:
        targets = targets[:, 0]
    return Observations(inputs, targets, x_names, y_names, name=path.stem, source=str(path))


def _number(text: str, column: str, where: str) -> float:
    text = text.strip()
    if text.lower() in _MISSING:
        raise ValueError(f"expected a number in column '{column}' of {where}, got the missing value {text!r}")
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_000 as a number; a table does not mean it
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"expected numbers in column '{column}', got the text {text!r} in {where}")
    if math.isinf(value):
        raise ValueError(f"expected a finite number in column '{column}' of {where}, got {text!r}")
    return value


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
