"""Files of tensors and plain values: written whole or not at all, without pickle, refused where they are others."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def write_tensors(content: dict[str, Any], path: str | Path) -> Path:
    """Write to a temporary name first, then rename: an old file is whole until the new one is."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    torch.save(content, temporary)
    temporary.replace(path)
    return path


def read_tensors(path: str | Path, what: str, *, device: Any = None) -> dict[str, Any]:
    """What `write_tensors` wrote. ``what`` is the name of it in errors.

    Raises ``OSError`` where there is no file, ``ValueError`` for one that is damaged or no table of tensors.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch writes checksums, and does not look at them
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")
            file.seek(0)
            content = torch.load(file, weights_only=True, map_location=device)
        except Exception as error:  # torch's reader fails in any way, OSError too, on what it did not write
            raise ValueError(f"expected {what} in {path}, got a file that cannot be read as one: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected {what} in {path}, got something else")
    return content
