"""Files that a run goes on from: written whole or not at all, without pickle, and refused where they do not fit."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.files import checksum, read_tensors, write_tensors

FORMAT = 2  # 2: with the fingerprints of the arguments
KEYS = {
    "method", "settings", "seed", "site", "sites", "arguments", "iteration", "tier", "threads", "q", "grad", "value",
    "kernel", "streams", "positions", "statistics", "diverged", "seconds", "warm_seconds", "gradients",
    "warm_gradients",
}  # fmt: skip


def check_path(path: Any) -> None:
    """``ValueError`` unless a file can be written at this path. Checked before the run, when no draw can be lost."""
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError(f"expected checkpoint as the path of a file, got {path!r}")


def check_folder(path: str | Path) -> None:
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise ValueError(f"expected checkpoint as a file in a folder that exists, got {str(path)!r}")


def write_checkpoint(content: dict[str, Any], path: str | Path) -> Path:
    """First to a temporary name, then renamed."""
    return write_tensors({"format": FORMAT, **content}, path)


def read_checkpoint(path: str | Path, methods: Collection[str]) -> dict[str, Any]:
    """What `write_checkpoint` wrote; ``ValueError`` for any other file that exists."""
    content = read_tensors(path, f"a checkpoint of format {FORMAT}")
    found = content.get("format")
    if not isinstance(found, int) or "kernel" not in content:
        raise ValueError(f"expected a checkpoint of format {FORMAT} in {path}, got something else")
    if found != FORMAT:
        raise ValueError(
            f"expected a checkpoint of format {FORMAT} in {path}, got format {found} of another version: run again"
        )
    missing = sorted(KEYS - content.keys())
    if missing or content["method"] not in methods:
        raise ValueError(f"expected a checkpoint of {sorted(methods)} in {path}, got one without {missing or 'either'}")
    return content


def fingerprints(args: tuple[Any, ...]) -> list[str]:
    """One for each argument of a model: equal for tensors of the same type, shape and bits."""
    return [checksum(value) if isinstance(value, Tensor) else "" for value in args]


def check_same_arguments(args: tuple[Any, ...], saved: list[str]) -> None:
    """``ValueError`` where the arguments are others than those of the checkpoint."""
    found = fingerprints(args)
    if len(found) != len(saved):
        raise ValueError(f"expected the {len(saved)} arguments of the checkpoint, got {len(found)}")
    other = [position for position, (one, two) in enumerate(zip(found, saved, strict=True)) if one != two]
    if other:
        raise ValueError(f"expected the data of the checkpoint, got other values in the arguments {other}")


def check_density(value: Tensor, grad: Tensor, saved: dict[str, Any], tolerance: float) -> None:
    """``ValueError`` where log density (chain,) and gradient (chain, dim) are not those saved, but for rounding.

    The gradient says more than the value, in which a great constant may hide a small change; ``tolerance`` is
    relative to its size.
    """
    expected, slope = saved["value"].to(value), saved["grad"].to(grad)
    rounding = 64 * torch.finfo(value.dtype).eps * (expected.abs() + 1)
    off = ~((value - expected).abs() <= rounding)
    if bool(off.any()):
        raise ValueError(
            f"expected the model and data of the checkpoint, got a log density of {float(value[off][0]):.9g} where it "
            f"has {float(expected[off][0]):.9g}"
        )
    apart = (grad - slope).norm(dim=-1)
    off = ~(apart <= tolerance * (slope.norm(dim=-1) + 1) + rounding / 16)
    if bool(off.any()):
        raise ValueError(
            f"expected the model and data of the checkpoint, got a gradient of the log density that is "
            f"{float(apart[off][0]):.3g} from the one it has"
        )
