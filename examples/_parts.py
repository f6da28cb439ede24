"""Numbers that took long, kept one file each as they come: a run that was interrupted goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from _report import write_json
from _workers import side_by_side

Metrics = Mapping[str, float]
_ASKED: dict[Path, float] = {}


def part(out: Path, name: str, settings: Any, compute: Callable[[], Metrics]) -> dict[str, float]:
    """``compute()``, or what it said in an earlier run with the same settings; its ``seconds`` beside its numbers.

    ``settings`` is anything whose ``repr`` says what the numbers depend on; the code is not part of it, so that after a
    change of it another ``--out`` is needed.
    """
    path = _path(out, name, settings)
    if not path.exists():
        _compute(path, compute)
    numbers = _read(path)
    _ASKED[path] = numbers["seconds"]
    return numbers


def parts(
    out: Path, wanted: Mapping[str, tuple[Any, Callable[[], Metrics]]], *, jobs: int
) -> dict[str, dict[str, float]]:
    """`part` of every name with its settings and its function, ``jobs`` at a time, each in a process of its own.

    Their progress is in ``out``/parts/<name>.log. With one job they are computed here, one after the other. The
    ``seconds`` of each are its own; `total_seconds` counts those on the clock.
    """
    paths = {name: _path(out, name, settings) for name, (settings, _) in wanted.items()}
    todo = {name: partial(_compute, path, wanted[name][1]) for name, path in paths.items() if not path.exists()}
    clock = out / "parts" / f"clock-{tag(sorted(path.name for path in paths.values()))}.json"
    earlier = _read(clock)["seconds"] if clock.exists() else 0.0
    begun = time.perf_counter()
    try:
        if jobs > 1:
            side_by_side(todo, jobs, logs=clock.parent)
        else:
            for compute in todo.values():
                compute()
    finally:
        if todo:
            write_json(clock, {"seconds": earlier + time.perf_counter() - begun})
    _ASKED[clock] = _read(clock)["seconds"] if clock.exists() else 0.0
    return {name: _read(path) for name, path in paths.items()}


def total_seconds() -> float:
    """Of all parts that this process has asked for, whichever run computed them."""
    return sum(_ASKED.values())


def tag(settings: Any) -> str:
    """A short name of settings, by their ``repr``: files that carry it are not taken for those of others."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]


def _path(out: Path, name: str, settings: Any) -> Path:
    folder = out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{tag(settings)}.json"


def _compute(path: Path, compute: Callable[[], Metrics]) -> None:
    begun = time.perf_counter()
    computed = {key: float(value) for key, value in compute().items()}
    write_json(path, computed | {"seconds": time.perf_counter() - begun})


def _read(path: Path) -> dict[str, float]:
    numbers: dict[str, float] = json.loads(path.read_text())
    return numbers
