"""What notebooks show: facts, tables and lists as HTML without scripts.

All text is escaped. Colours are those of the notebook with some transparency, so that light and dark themes both work.
Importing this module does not import torch.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

ROWS = 5
"""Rows of a table that are shown of many."""

COLUMNS = 12
"""Columns of a table that are shown of many."""

BORDER = "1px solid rgba(128,128,128,.35)"
CELL = f"padding:.2em .8em;border:0;border-bottom:{BORDER};vertical-align:top;background:transparent;color:inherit"


def panel(title: str, *parts: str) -> str:
    """A title above ``parts``, which are HTML; empty parts are left out."""
    inner = "".join(part for part in parts if part)
    return (
        f'<div style="font-size:.9em;line-height:1.4;margin:.3em 0;color:inherit"><div style="font-weight:600">'
        f"{escape(title)}</div>{inner}</div>"
    )


def paragraph(text: str) -> str:
    """A line of text."""
    return f'<div style="margin:.2em 0">{escape(text)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], more: str = "") -> str:
    """A table; numbers are shown by `short` and aligned to the right. ``more`` is a line below it."""
    head = "".join(f'<th style="{CELL};text-align:left;font-weight:600">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    below = f'<div style="opacity:.7">{escape(more)}</div>' if more else ""
    return (
        f'<table style="border-collapse:collapse;margin:.4em 0;color:inherit"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}"
    )


def listing(title: str, items: Iterable[str], code: bool = False) -> str:
    """A list with a title; empty without items. With ``code``, the items are set in a fixed width."""
    tag = "code" if code else "span"
    style = ' style="background:transparent;color:inherit"' if code else ""
    lines = "".join(f"<li><{tag}{style}>{escape(item)}</{tag}></li>" for item in items)
    return f'<div>{escape(title)}<ul style="margin:.1em 0 .3em 1.2em">{lines}</ul></div>' if lines else ""


def short(value: Any) -> str:
    """A number with four significant digits, a missing one as a dash; other values as text.

    >>> short(0.123456), short(7), short(float("nan"))
    ('0.1235', '7', '–')
    """
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "row"), count(20000, "row")
    ('1 row', '20,000 rows')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _cell(value: Any) -> str:
    side = "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
    return f'<td style="{CELL};text-align:{side}">{escape(short(value))}</td>'
