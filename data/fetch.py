"""Files of public data sets, from a local folder or downloaded once, with verified contents.

The folder is an argument or the environment variable POSTERITY_DATA. Otherwise pooch downloads the files into the cache
of the operating system. The SHA-256 of the decompressed contents is verified, since mirrors compress the same data
differently.
"""

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import pooch


def read_public(name: str, url: str, sha256: str, folder: str | Path | None = None) -> bytes:
    """The decompressed contents of the gzip file ``name`` (with ``/`` between folders), downloaded if necessary.

    Raises:
        FileNotFoundError: the file is not in ``folder``.
        ValueError: the file is not a gzip file or is truncated, or its contents have another SHA-256.
    """
    path = _local(name, folder)
    if path is None:
        cache = pooch.os_cache("posterity") / Path(name).parent
        path = Path(pooch.retrieve(url, known_hash=None, fname=Path(name).name, path=cache))
    contents = gunzip(path)
    digest = hashlib.sha256(contents).hexdigest()
    if digest != sha256:
        raise ValueError(f"expected {path} to hold data of SHA-256 {sha256}, got {digest}")
    return contents


def as_path(label: str, path: Any) -> Path:
    """The argument ``label`` as a path; ``ValueError`` unless it is a string or a path."""
    if isinstance(path, str | os.PathLike):
        try:
            converted = Path(path)
            converted.is_dir()  # False for a name with NUL, an error for a name that is too long
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"expected {label} to be a path, got {path!r}: {error}") from error
        if "\0" not in str(path):
            return converted
    raise ValueError(f"expected {label} to be a path, got {path!r}")


def gunzip(path: Path) -> bytes:
    """The contents of a file, decompressed if it is a gzip file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the path is a folder, or the gzip file is truncated or damaged.
    """
    if path.is_dir():
        raise ValueError(f"expected the path of a file, got the folder {path}")
    raw = path.read_bytes()
    if not raw.startswith(b"\x1f\x8b"):
        if path.suffix == ".gz":
            raise ValueError(f"expected a gzip file, got {path} with other contents")
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"expected a complete gzip file, got {path}, truncated or damaged ({error})") from None


def _local(name: str, folder: str | Path | None) -> Path | None:
    if folder is not None:
        path = as_path("folder", folder) / name
        if not path.is_file():
            raise FileNotFoundError(f"expected the file {path}, which does not exist")
        return path
    shared = os.environ.get("POSTERITY_DATA")
    return Path(shared) / name if shared and (Path(shared) / name).is_file() else None
