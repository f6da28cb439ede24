"""Parts of an example whose numbers take long: each is stored in a file, so an interrupted run can be resumed."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from _report import write_json
from _workers import run_in_processes

Metrics = Mapping[str, float]
_SECONDS: dict[Path, float] = {}  # of the parts that this process has used


class Fit(Protocol):
    """A record of a training run."""

    interrupted: bool


def finished(fit: Fit) -> None:
    """Raises ``KeyboardInterrupt`` if the training was interrupted, so that nothing half-trained is stored."""
    if fit.interrupted:
        raise KeyboardInterrupt


def compute_part(out: Path, name: str, settings: Any, compute: Callable[[], Metrics]) -> dict[str, float]:
    """The numbers of ``compute()`` and its ``seconds``, stored by an earlier run with these settings or computed now.

    ``settings`` is anything whose ``repr`` contains everything the numbers depend on. The code is not part of it: after
    a change of the code, use another ``--out``.
    """
    path = _path(out, name, settings)
    if not path.exists():
        _compute(path, compute)
    numbers = _read(path)
    _SECONDS[path] = numbers["seconds"]
    return numbers


def compute_parts(
    out: Path, wanted: Mapping[str, tuple[Any, Callable[[], Metrics]]], *, jobs: int
) -> dict[str, dict[str, float]]:
    """The results of `compute_part` for each name with its settings and function, ``jobs`` processes at a time.

    Their progress bars are in ``out``/parts/<name>.log. With one job the parts are computed in this process, one after
    the other. ``seconds`` is the time of each part; `total_seconds` counts the time on the clock.
    """
    paths = {name: _path(out, name, settings) for name, (settings, _) in wanted.items()}
    missing = {name: partial(_compute, path, wanted[name][1]) for name, path in paths.items() if not path.exists()}
    clock = out / "parts" / f"clock-{tag(sorted(path.name for path in paths.values()))}.json"
    earlier = _read(clock)["seconds"] if clock.exists() else 0.0
    begun = time.perf_counter()

    def count() -> None:  # after each part, so that the clock of a run that is killed is not lost
        write_json(clock, {"seconds": earlier + time.perf_counter() - begun})

    try:
        if jobs > 1:
            run_in_processes(missing, jobs, logs=clock.parent, after=count)
        else:
            for compute in missing.values():
                compute()
                count()
    finally:
        if missing:
            count()
    _SECONDS[clock] = _read(clock)["seconds"] if clock.exists() else 0.0
    return {name: _read(path) for name, path in paths.items()}


def compute_stages(
    out: Path, settings: Any, stages: Iterable[Mapping[str, Callable[[], Metrics]]], *, jobs: int
) -> dict[str, float]:
    """The numbers of all parts as "part.number", stage by stage: a stage needs what the ones before have stored."""
    metrics: dict[str, float] = {}
    for stage in stages:
        wanted = {name: (settings, compute) for name, compute in stage.items()}
        for part, numbers in compute_parts(out, wanted, jobs=jobs).items():
            metrics |= {f"{part}.{name}": value for name, value in numbers.items()}
    return metrics


def total_seconds() -> float:
    """Seconds of all parts that this process has used, whichever run computed them."""
    return sum(_SECONDS.values())


def tag(settings: Any) -> str:
    """A hash of the ``repr`` of settings, for names of files that belong to these settings alone."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]


def _path(out: Path, name: str, settings: Any) -> Path:
    folder = out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{tag(settings)}.json"


def _compute(path: Path, compute: Callable[[], Metrics]) -> None:
    begun = time.perf_counter()
    numbers = {key: float(value) for key, value in compute().items()}
    write_json(path, numbers | {"seconds": time.perf_counter() - begun})


def _read(path: Path) -> dict[str, float]:
    numbers: dict[str, float] = json.loads(path.read_text())
    return numbers
