"""Files that are written completely or not at all and read without pickle, and checksums.

Importing this module does not import torch.
"""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to, which replaces ``path`` at the end of the ``with`` block.

    After a crash or an error, the file is either the old one or the new one, never a part.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    yield temporary
    temporary.replace(path)


def write_tensors(content: dict[str, Any], path: str | Path) -> Path:
    """Write a dictionary of tensors and plain values, and return the path; an old file is replaced at the end."""
    import torch

    with replacing(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def read_tensors(path: str | Path, what: str, *, device: Any = None, format: str | None = None) -> dict[str, Any]:
    """The dictionary that `write_tensors` wrote; ``what`` names it in error messages, such as "a checkpoint".

    With ``format``, the dictionary must have this value under "format".

    Raises ``OSError`` if the file does not exist, and ``ValueError`` if it is damaged or does not hold a dictionary.
    """
    import torch

    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch writes checksums but does not verify them
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")
            file.seek(0)
            content = torch.load(file, weights_only=True, map_location=device)
        except Exception as error:  # torch raises errors of many types, even OSError, for other kinds of files
            raise ValueError(f"expected {what} in {path}, got a file that cannot be read as one: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected {what} in {path}, got something else")
    if format is not None and content.get("format") != format:
        raise ValueError(f"expected {what} in {path}, got another file")
    return content


def checksum(*values: Any) -> str:
    """The SHA-256 of tensors by dtype, shape and bits, and of other values by their text (see `describe`)."""
    digest = hashlib.sha256()
    for value in values:
        if not hasattr(value, "detach"):
            digest.update(describe(value).encode())
            continue
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(memoryview(plain.reshape(-1).view(_bytes()).numpy()))
    return digest.hexdigest()


def describe(value: Any) -> str:
    """A text of the value without memory addresses, which is the same in every process."""
    text = value.describe() if hasattr(value, "describe") else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _bytes() -> Any:
    import torch

    return torch.uint8
