"""Compiled models on disk, so that a later process does not compile the same model again.

The folder is ``POSTERITY_CACHE`` where it is set, and the user's cache folder otherwise. A file is found by the C++ code,
the compiler with its flags, and the processor. The oldest files are removed beyond `LARGEST` files.
"""

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pooch

LARGEST = 256  # files, of some 100 kB each
VARIABLE = "POSTERITY_CACHE"


def folder() -> Path:
    """Where compiled models are kept."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(pooch.os_cache("posterity")) / "compiled"


def entry(code: str, command: tuple[str, ...]) -> Path:
    """The file of ``code`` compiled by ``command``, a compiler and its flags; it need not exist."""
    text = "\n".join((version(command[0]), processor(), *command, code))
    return folder() / f"{hashlib.sha256(text.encode()).hexdigest()}.so"


def keep(binary: Path, path: Path) -> None:
    """Copy ``binary`` to ``path``, if the folder can be written. Several processes may do so at the same time."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(binary.read_bytes())
        temporary.replace(path)
        _remove_oldest(path.parent)


def _remove_oldest(where: Path) -> None:
    files = sorted(where.glob("*.so"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[LARGEST:]:
        with contextlib.suppress(OSError):  # another process may have removed it
            file.unlink()


@functools.cache
def version(compiler: str) -> str:
    """The first line that the compiler prints of its version."""
    run = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return run.stdout.partition("\n")[0]


@functools.cache
def processor() -> str:
    """The processor with its instruction sets: code for one may not run on another."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"
