"""Files: written completely or not at all, read without pickle, and checksums. Does not import torch."""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to, which is renamed to ``path`` at the end.

    After a crash or an error there is either the old file or the new one.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    yield temporary
    temporary.replace(path)


def write_tensors(content: dict[str, Any], path: str | Path) -> Path:
    """Write a dictionary of tensors and plain values; an existing file is replaced as by `replacing`."""
    import torch

    with replacing(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def read_tensors(path: str | Path, what: str, *, device: Any = None) -> dict[str, Any]:
    """The dictionary that `write_tensors` wrote; ``what`` is its name in error messages, such as "a checkpoint".

    Raises ``OSError`` if there is no file, and ``ValueError`` if the file is damaged or holds no dictionary.
    """
    import torch

    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch writes checksums, and does not verify them
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")
            file.seek(0)
            content = torch.load(file, weights_only=True, map_location=device)
        except Exception as error:  # torch raises errors of many types, OSError too, for files of other kinds
            raise ValueError(f"expected {what} in {path}, got a file that cannot be read as one: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected {what} in {path}, got something else")
    return content


def checksum(*values: Any) -> str:
    """SHA-256 of tensors by dtype, shape and bits, and of other values by their text (see `describe`)."""
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
    """The text of a value that is the same in every process: without memory addresses."""
    text = value.describe() if hasattr(value, "describe") else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _bytes() -> Any:
    import torch

    return torch.uint8
