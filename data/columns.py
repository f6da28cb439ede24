"""Fields of a table to numbers: decimal points or commas, and what is no number, named with its line."""

import math
from decimal import Decimal
from pathlib import Path

from posterity.data.delimited import Row

DIGITS = 15  # that float64 keeps of any decimal number
MISSING = {"", "na", "n/a", "nan", "null", "none"}


class Column:
    """A column of numbers: what its fields mean, and what is refused, with the line."""

    def __init__(self, name: str, place: int, decimal: str, path: Path) -> None:
        self.name, self.place, self.decimal, self.path = name, place, decimal, path
        self._long: dict[float, Decimal] = {}  # numbers of more digits than float64 always keeps

    def number(self, text: str, row: Row) -> float:
        """The number in a field. Raises ValueError for anything else."""
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
            beyond = ", which is beyond float64" if any(digit.isdigit() for digit in text) else ""
            raise ValueError(f"expected a finite number in {self._where(row)}, got {text!r}{beyond}")
        exact = None
        if value == 0 or len(text) > DIGITS:
            exact = Decimal(text.replace(",", "."))
        if value == 0 and exact:
            raise ValueError(
                f"expected a number that float64 holds in {self._where(row)}, got {text!r}, which it makes 0"
            )
        if exact is not None and self._long.setdefault(value, exact) != exact:
            raise ValueError(
                f"expected numbers that float64 tells apart in {self._where(row)}, got {text!r}, which it makes equal "
                f"to {self._long[value]}: subtract an origin"
            )
        return value

    def _where(self, row: Row) -> str:
        return f"column '{self.name}' of {row.place(self.path)}"

    def fits(self, text: str) -> bool:
        """Whether a field could be of this column: a number, or a missing value."""
        text = text.strip()
        return text.lower() in MISSING or not math.isnan(self._parsed(text))

    def _parsed(self, text: str) -> float:
        """NaN for what is no number."""
        if "_" in text or (self.decimal == "," and "." in text):
            return math.nan  # Python reads 1_000 as a number; 1.234 with decimal commas is a thousand or a mistake
        try:
            return float(text.replace(",", ".") if self.decimal == "," else text)
        except ValueError:
            return math.nan
