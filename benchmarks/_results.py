"""What every benchmark says beside its numbers, and how they are kept."""

import contextlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from posterity.files import replacing


def versions(*names: str) -> dict[str, str]:
    """Of Python, posterity and the packages of these names, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in ("posterity", *names):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> str:
    """The processor's name, as far as the system tells it."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"cpu ({model}, {platform.machine()}, {cores()} cores)"


def write(path: Path, content: Any) -> None:
    """As JSON under a temporary name, then renamed: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
