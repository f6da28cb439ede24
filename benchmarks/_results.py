"""Versions and hardware in the results of a benchmark, and the writing of its file."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from posterity.files import replacing


def versions(*names: str) -> dict[str, str]:
    """Versions of Python, posterity and those of the named packages that are installed."""
    found = {"python": platform.python_version()}
    for name in ("posterity", *names):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def versions_of(python: str, names: Sequence[str]) -> dict[str, str]:
    """Versions of the named packages that another interpreter has."""
    code = f"""
import contextlib, json
from importlib.metadata import PackageNotFoundError, version
found = {{}}
for name in {tuple(names)}:
    with contextlib.suppress(PackageNotFoundError):
        found[name] = version(name)
print(json.dumps(found))"""
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cold_caches(folder: Path) -> dict[str, str]:
    """Environment variables with which a process finds nothing that another one has compiled; ``folder`` is empty."""
    return {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "POSTERITY_CACHE": str(folder / "posterity"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}",
    }


def device() -> str:
    """The processor's name, if the system gives it."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"cpu ({model}, {platform.machine()}, {cores()} cores)"


def write(path: Path, content: Any) -> None:
    """Write JSON under a temporary name and rename it: a crash leaves either the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
