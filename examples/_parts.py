"""Numbers that took long, kept one file each as they come: a run that was interrupted goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _report import write_json

Metrics = Mapping[str, float]
_ASKED: dict[Path, float] = {}


def part(out: Path, name: str, settings: Any, compute: Callable[[], Metrics]) -> dict[str, float]:
    """``compute()``, or what it said in an earlier run with the same settings; its ``seconds`` beside its numbers.

    ``settings`` is anything whose ``repr`` says what the numbers depend on; the code is not part of it, so that after a
    change of it another ``--out`` is needed.
    """
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    path = out / "parts" / f"{name}-{key}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        computed = {k: float(v) for k, v in compute().items()}
        write_json(path, computed | {"seconds": time.perf_counter() - begun})
    numbers = json.loads(path.read_text())
    _ASKED[path] = numbers["seconds"]
    return numbers


def total_seconds() -> float:
    """Of all parts that this process has asked for, whichever run computed them."""
    return sum(_ASKED.values())
