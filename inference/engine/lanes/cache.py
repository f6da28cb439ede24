"""Compiled models on disk, so that a later process does not compile the same model again.

The folder is ``POSTERITY_CACHE`` if it is set, and the user's cache folder otherwise; ``POSTERITY_CACHE=off`` keeps
nothing. A file is identified by the C++ code, the compiler with its flags, and the processor. Above `LARGEST` files,
those not used for longest are removed.
"""

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pooch

LARGEST = 256  # files, each of about 100 kB
VARIABLE = "POSTERITY_CACHE"  # environment variable that names the folder


def folder() -> Path:
    """The folder of the compiled models."""
    named = os.environ.get(VARIABLE)
    if named == "off":
        return Path(os.devnull)  # below which no file can be
    return Path(named) if named else Path(pooch.os_cache("posterity")) / "compiled"


def entry(code: str, command: tuple[str, ...]) -> Path:
    """The path for ``code`` compiled by ``command``, a compiler with its flags; the file need not exist."""
    text = "\n".join((version(command[0]), processor(), *command, code))
    return folder() / f"{hashlib.sha256(text.encode()).hexdigest()}.so"


def keep(binary: Path, path: Path) -> None:
    """Copy ``binary`` to ``path`` if the folder is writable; several processes may do so at the same time."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(binary.read_bytes())
        temporary.replace(path)
        _remove_unused(path.parent)


def mark_as_used(path: Path) -> None:
    """Note that the file at ``path`` was used, so that it is removed later."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _remove_unused(where: Path) -> None:
    """Remove the files not used for longest, above the largest number of files."""
    files = sorted(where.glob("*.so"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[LARGEST:]:
        with contextlib.suppress(OSError):  # another process may have removed it
            file.unlink()


@functools.cache
def version(compiler: str) -> str:
    """The first line of the compiler's version."""
    run = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return run.stdout.partition("\n")[0]


@functools.cache
def processor() -> str:
    """The processor and its instruction sets, because code for one processor may not run on another."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"
