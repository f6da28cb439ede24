"""Conversion of table fields to numbers, with decimal points or commas; errors give the line of a bad field."""

import math
from decimal import Decimal
from pathlib import Path

from posterity.data.delimited import Row

DIGITS = 15  # significant digits of a decimal number that float64 always keeps
MISSING = {"", "na", "n/a", "nan", "null", "none"}


class Column:
    """A column of numbers: converts fields, and refuses bad fields with their line."""

    def __init__(self, name: str, place: int, decimal: str, path: Path) -> None:
        self.name, self.place, self.decimal, self.path = name, place, decimal, path
        self._long: dict[float, Decimal] = {}  # numbers with more digits than float64 always keeps

    def number(self, text: str, row: Row) -> float:
        """The number in a field.

        Raises:
            ValueError: the field has a missing value, a text, or a number that float64 cannot hold or distinguish.
        """
        text = text.strip()
        if text.lower() in MISSING:
            raise ValueError(f"expected a number in {self._where(row)}, got the missing value {text!r}")
        value = self._parsed(text)
        if math.isnan(value):
            mark = next(mark for mark in ".," if mark != self.decimal)
            hint = f" (decimal={self.decimal!r}, no separators of thousands)" if mark in text else ""
            raise ValueError(
                f"expected numbers in column '{self.name}', got the text {text!r} in {row.place(self.path)}{hint}"
            )
        if math.isinf(value):
            beyond = ", which is out of range for float64" if any(digit.isdigit() for digit in text) else ""
            raise ValueError(f"expected a finite number in {self._where(row)}, got {text!r}{beyond}")
        exact = None
        if value == 0 or len(text) > DIGITS:
            exact = Decimal(text.replace(",", "."))
        if value == 0 and exact:
            raise ValueError(
                f"expected a number that float64 can hold in {self._where(row)}, got {text!r}, rounded to 0"
            )
        if exact is not None and self._long.setdefault(value, exact) != exact:
            raise ValueError(
                f"expected numbers that are distinct in float64 in {self._where(row)}, got {text!r}, which float64 "
                f"rounds to the same value as {self._long[value]}: subtract an origin"
            )
        return value

    def _where(self, row: Row) -> str:
        return f"column '{self.name}' of {row.place(self.path)}"

    def fits(self, text: str) -> bool:
        """Whether a field may belong to this column: a number or a missing value."""
        text = text.strip()
        return text.lower() in MISSING or not math.isnan(self._parsed(text))

    def _parsed(self, text: str) -> float:
        """The number; NaN if the text is not a number."""
        if "_" in text or (self.decimal == "," and "." in text):
            return math.nan  # Python reads 1_000 as a number; 1.234 with decimal commas may mean 1234, or be a mistake
        try:
            return float(text.replace(",", ".") if self.decimal == "," else text)
        except ValueError:
            return math.nan
