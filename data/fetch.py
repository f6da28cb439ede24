"""Where a public data set is: in a folder of the user's, or fetched once and kept; and that it is what it should be.

A folder is the one given, or the one that the environment variable POSTERITY_DATA names. Otherwise files are downloaded
by pooch into the cache of the operating system. What is inside a file is compared with its SHA-256, after
decompression: mirrors compress the same data differently.
"""

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import pooch


def read_public(name: str, url: str, sha256: str, folder: str | Path | None = None) -> bytes:
    """The decompressed contents of the gzip file ``name`` (with ``/`` between folders), downloaded if need be.

    Raises:
        FileNotFoundError: it is not in the folder that was given.
        ValueError: it is no gzip file, is cut off, or holds something else than it should.
    """
    path = _local(name, folder)
    if path is None:
        kept = pooch.os_cache("posterity") / Path(name).parent
        path = Path(pooch.retrieve(url, known_hash=None, fname=Path(name).name, path=kept))
    contents = gunzip(path)
    found = hashlib.sha256(contents).hexdigest()
    if found != sha256:
        raise ValueError(f"expected {path} to hold data of SHA-256 {sha256}, got {found}")
    return contents


def as_path(label: str, path: Any) -> Path:
    """The argument ``label`` as a path; ``ValueError`` unless it is a text or a path."""
    if isinstance(path, str | os.PathLike):
        try:
            made = Path(path)
            made.is_dir()  # which says no to a NUL, and raises for a name too long
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"expected {label} to be a path, got {path!r}: {error}") from error
        if "\0" not in str(path):
            return made
    raise ValueError(f"expected {label} to be a path, got {path!r}")


def gunzip(path: Path) -> bytes:
    """What is in a file, decompressed where it is a gzip file.

    Raises ``FileNotFoundError`` where there is none, ``ValueError`` for a folder, or a gzip file that is cut off or
    broken.
    """
    if path.is_dir():
        raise ValueError(f"expected a path of a file, got the folder {path}")
    raw = path.read_bytes()
    if not raw.startswith(b"\x1f\x8b"):
        if path.suffix == ".gz":
            raise ValueError(f"expected a gzip file, got {path} with other contents")
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"expected a whole gzip file, got {path}, which is cut off or broken ({error})") from None


def _local(name: str, folder: str | Path | None) -> Path | None:
    if folder is not None:
        path = as_path("folder", folder) / name
        if not path.is_file():
            raise FileNotFoundError(f"expected {path}, which does not exist")
        return path
    named = os.environ.get("POSTERITY_DATA")
    return Path(named) / name if named and (Path(named) / name).is_file() else None
