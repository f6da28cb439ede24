"""Repeated statements as loops.

A loop in a Pyro model, over time steps for example, is recorded as the statements of all its steps, one after another.
To compile them takes time in proportion. Here statements that repeat with other numbers become a loop again: the
numbers that differ are read from tables. The order of the operations does not change.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_BLOCKS = 240  # of a model, from which statements are rolled up: below, they compile in about a second anyway
FEWEST_TURNS = 4  # of a loop
MOST = 2**25  # comparisons of blocks with earlier ones

# Floating numbers, buffers, constant arrays, local names and integers, in this order.
TOKEN = re.compile(
    r"\(S\)(?P<float>-?\d[\d.]*(?:e[+-]?\d+)?)|\b(?P<buffer>b\d+)\b|\b(?P<array>[KJ]\d+)\b"
    r"|\b(?P<local>[a-z]\d+(?:_\d+)?)\b|(?<![\w.])(?P<integer>\d+)(?![\w.])"
)


@dataclass(frozen=True)
class Block:
    """Statements with holes for what may differ between repetitions, and what is in them: (kind, text)."""

    template: str
    holes: tuple[tuple[str, str], ...]
    text: str


def roll(blocks: Sequence[Sequence[str]], offsets: Mapping[str, int]) -> list[str]:
    """The lines of all ``blocks`` in order, those that repeat as loops.

    ``offsets`` are the places in memory of the buffers that a loop may address by number.
    """
    if len(blocks) < FEWEST_BLOCKS:
        return [line for block in blocks for line in ("{", *block, "}")]
    read = [_read("\n".join(block), offsets) for block in blocks]
    lines: list[str] = []
    numbers: dict[str, int] = {}
    kinds = np.array([numbers.setdefault(block.template, len(numbers)) for block in read])
    lengths, at, tables = _run_lengths(kinds), 0, 0
    while at < len(read):
        turns, period = _best(lengths, at)
        if not period:
            lines += ["{", read[at].text, "}"]
            at += 1
            continue
        parts = [read[at + place : at + turns * period : period] for place in range(period)]
        body: list[str] = []
        lines.append("{")
        for part in parts:
            text, declared, tables = _loop_body(part, offsets, tables)
            lines += declared
            body += ["{", text, "}"]
        lines += [f"for (int u = 0; u < {turns}; u++) {{", *body, "}", "}"]
        at += turns * period
    return lines


def _read(text: str, offsets: Mapping[str, int]) -> Block:
    holes: list[tuple[str, str]] = []
    names: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        kind, found = match.lastgroup or "", match.group(match.lastgroup or 0)
        if kind == "local":
            return names.setdefault(found, f"{found[0]}_{len(names)}")
        if kind == "buffer" and found not in offsets:
            return found  # an output of the function
        holes.append((kind, found))
        return f"\0{kind[0]}\0"

    return Block(TOKEN.sub(replace, text), tuple(holes), text)


def _run_lengths(kinds: np.ndarray) -> np.ndarray:
    """How far each block and those after it equal the ones ``period`` later: (period, block)."""
    count = len(kinds)
    longest = max(1, min(count // FEWEST_TURNS, MOST // count))
    lengths = np.zeros((longest, count), dtype=np.int32)
    for period in range(1, longest + 1):
        same = kinds[period:] == kinds[:-period]
        ends = np.where(~same, np.arange(len(same)), len(same))
        first_end = np.minimum.accumulate(ends[::-1])[::-1]
        lengths[period - 1, : len(same)] = first_end - np.arange(len(same))
    return lengths


def _best(lengths: np.ndarray, at: int) -> tuple[int, int]:
    """Turns and period of the loop at a block that covers most blocks; (0, 0) if there is none."""
    periods = np.arange(1, len(lengths) + 1)
    turns = lengths[:, at] // periods + 1
    covered = np.where((turns >= FEWEST_TURNS) & (turns * periods >= 2 * FEWEST_TURNS), turns * periods, 0)
    best = int(covered.argmax())  # the shortest of equal ones
    return (int(turns[best]), int(periods[best])) if covered[best] else (0, 0)


def _loop_body(part: Sequence[Block], offsets: Mapping[str, int], tables: int) -> tuple[str, list[str], int]:
    """The statements of one block of a loop, the tables that they read, and the number of tables so far."""
    declared: list[str] = []
    filled = []
    for hole in zip(*(block.holes for block in part), strict=True):
        kind, values = hole[0][0], [text for _, text in hole]
        if kind == "buffer":
            places = [offsets[value] for value in values]
            text, new = _number(places, tables)
            filled.append(f"(B + {text})")
        elif kind == "integer":
            text, new = _number([int(value) for value in values], tables)
            filled.append(text)
        elif len(set(values)) == 1:
            filled.append(f"(S){values[0]}" if kind == "float" else values[0])
            continue
        else:
            name = f"T{tables}"
            type_ = "S" if kind == "float" else {"K": "S* const", "J": "int* const"}[values[0][0]]
            storage = "static const" if kind == "float" else "const"
            new = f"{storage} {type_} {name}[] = {{{', '.join(values)}}};"
            filled.append(f"{name}[u]")
        if new:
            declared.append(new)
            tables += 1
    pieces = re.split("\0[a-z]\0", part[0].template)
    text = pieces[0] + "".join(value + piece for value, piece in zip(filled, pieces[1:], strict=True))
    return text, declared, tables


def _number(values: Sequence[int], tables: int) -> tuple[str, str]:
    """An integer of every turn as an expression of the turn ``u``, and the table that it needs, if any."""
    first, step = values[0], values[1] - values[0]
    if all(value == first + turn * step for turn, value in enumerate(values)):
        return (str(first), "") if step == 0 else (f"({first} + {step} * u)", "")
    return f"T{tables}[u]", f"static const int T{tables}[] = {{{', '.join(map(str, values))}}};"
