"""Refits on disk: one small file each, never written in part, and the settings that they were made with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.files import read_tensors, replacing, write_tensors

FORMAT = 1
ARRAYS = ("truth", "draws", "ess")
SETTINGS = "settings.json"


class Folder:
    """A folder of refits that were made with the same ``settings``.

    Raises:
        ValueError: The folder has refits with other settings, or the path is a file.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"expected folder to be a folder, got the file {str(path)!r}")
        self.path.mkdir(parents=True, exist_ok=True)
        wanted, note = {"format": FORMAT, **settings}, self.path / SETTINGS
        if not note.exists():
            with replacing(note) as temporary:
                temporary.write_text(json.dumps(wanted, indent=1) + "\n")
            return
        try:
            found = json.loads(note.read_text())
        except ValueError:
            found = {}
        for name, value in wanted.items():
            if not isinstance(found, dict) or found.get(name) != value:
                other = found.get(name) if isinstance(found, dict) else found
                raise ValueError(
                    f"expected another folder, or the settings of the refits in {self.path}: {name} "
                    f"{_short(other)}, got {_short(value)}"
                )

    def read(self, index: int, data: str) -> dict[str, Any] | None:
        """The refit of this simulation, if there is one. ``ValueError`` if its file is damaged or has other data."""
        path = self._file(index)
        if not path.exists():
            return None
        content = read_tensors(path, "a refit")
        if content.pop("data", None) != data:
            raise ValueError(f"expected a refit of this model's simulation {index} in {path}, got one of other data")
        return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in content.items()}

    def write(self, index: int, outcome: Mapping[str, Any], data: str) -> None:
        content = {k: torch.as_tensor(v) if k in ARRAYS else v for k, v in outcome.items()}
        write_tensors({**content, "data": data}, self._file(index))

    def _file(self, index: int) -> Path:
        return self.path / f"refit-{index:06d}.pt"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 300 else text[:300] + " ..."
