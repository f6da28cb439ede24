"""Helpers that run examples in a separate process, or import them as modules."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Finished:
    """The metrics and the names of the figures of a finished example."""

    metrics: dict[str, float]
    figures: set[str]


def start(name: str, *args: str, limit: int = 600) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)


def run_twice(name: str, out: Path) -> dict[str, float]:
    """The metrics of a quick run, which a second run repeats from the stored files, without training."""
    runs = []
    for limit in (400, 100):
        result = start(name, "--quick", "--out", str(out), limit=limit)
        assert result.returncode == 0, result.stderr[-3000:]
        report = json.loads((out / "report.json").read_text())
        assert report["example"] == name
        assert report["quick"]
        assert "not_finite" not in report
        runs.append(report["metrics"])
    assert runs[0] == runs[1]
    for picture in out.glob("*.png"):
        assert picture.stat().st_size > 20_000
    return runs[0]


def run_and_resume(name: str, out: Path) -> Finished:
    """A quick run whose figures and metrics are complete, and whose repetition fits nothing a second time."""
    result = start(name, "--quick", "--out", str(out))
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((out / "report.json").read_text())
    assert report["example"] == name
    assert report["quick"] is True
    assert "not_finite" not in report
    assert "nan" not in result.stdout
    figures = list(out.glob("*.png"))
    assert all(path.stat().st_size > 10_000 for path in figures)
    assert not list(out.rglob("*.part"))
    times = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    again = start(name, "--quick", "--out", str(out), limit=200)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == times
    assert json.loads((out / "report.json").read_text())["metrics"] == report["metrics"]
    return Finished(report["metrics"], {path.name for path in figures})


@contextmanager
def script(name: str) -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "examples"))
