"""How tests start examples: in a process of their own, or as a module for what they refuse before they begin."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def start(name: str, *args: str, limit: int = 600) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)


def run_twice(name: str, out: Path) -> dict[str, float]:
    """The metrics of a quick run; the same again from what it kept, without a training."""
    found = []
    for limit in (400, 100):
        result = start(name, "--quick", "--out", str(out), limit=limit)
        assert result.returncode == 0, result.stderr[-3000:]
        report = json.loads((out / "report.json").read_text())
        assert report["example"] == name
        assert report["quick"]
        assert "not_finite" not in report
        found.append(report["metrics"])
    assert found[0] == found[1]
    for picture in out.glob("*.png"):
        assert picture.stat().st_size > 20_000
    return found[0]


def readme_block(section: str = "") -> str:
    """The first python block of README.md, or the first from the heading ``section`` on."""
    code = re.search(rf"{re.escape(section)}.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    return code.group(1)


def run_readme(folder: Path, *replaced: str, section: str = "") -> str:
    """What that block prints, run by itself in ``folder``, with ``short`` in the place of ``long``: long, short, ..."""
    code = readme_block(section)
    for long, short in zip(replaced[::2], replaced[1::2], strict=True):
        assert long in code
        code = code.replace(long, short)
    program = folder / "block.py"  # a file: those that start processes need one
    program.write_text("import warnings\nwarnings.simplefilter('ignore')\n" + code)
    result = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True, text=True, timeout=300, check=False, cwd=folder,
    )  # fmt: skip
    program.unlink()
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@contextmanager
def script(name: str) -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "examples"))
