"""Checkpoint files, written without pickle and never in part, and the check that a checkpoint fits model and data."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.files import checksum, read_tensors, write_tensors
from posterity.inference.program.nested import tensors_in

FORMAT = 3  # since 2: checksums of the arguments; since 3: no states of random generators
KEYS = {
    "method", "settings", "seed", "site", "sites", "arguments", "iteration", "tier", "threads", "q", "grad", "value",
    "kernel", "positions", "statistics", "diverged", "seconds", "warm_seconds", "gradients",
    "warm_gradients",
}  # fmt: skip


def check_path(path: Any) -> None:
    """``ValueError`` unless ``path`` is a path."""
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError(f"expected checkpoint to be the path of a file, got {path!r}")


def check_folder(path: str | Path) -> None:
    """``ValueError`` unless a file can be written at ``path``; called before the run, when no draws can be lost."""
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise ValueError(f"expected checkpoint to be a file in an existing folder, got {str(path)!r}")


def write_checkpoint(content: dict[str, Any], path: str | Path) -> Path:
    """Write a checkpoint under a temporary name, then rename it; returns the path."""
    return write_tensors({"format": FORMAT, **content}, path)


def read_checkpoint(path: str | Path, methods: Collection[str]) -> dict[str, Any]:
    """The content of a checkpoint of one of the ``methods``; ``ValueError`` for any other file."""
    content = read_tensors(path, f"a checkpoint of format {FORMAT}")
    version = content.get("format")
    if not isinstance(version, int) or "kernel" not in content:
        raise ValueError(f"expected a checkpoint of format {FORMAT} in {path}, got something else")
    if version != FORMAT:
        raise ValueError(
            f"expected a checkpoint of format {FORMAT} in {path}, got format {version} of another version: run again"
        )
    missing = sorted(KEYS - content.keys())
    if missing or content["method"] not in methods:
        raise ValueError(f"expected a checkpoint of {sorted(methods)} in {path}, got one without {missing or 'either'}")
    return content


def fingerprints(args: tuple[Any, ...]) -> list[str]:
    """A checksum of each argument with data, equal for tensors of the same dtype, shape and bits; "" for others."""
    data = [tensors_in((value,)) for value in args]
    return [checksum(*tensors) if tensors else "" for tensors in data]


def check_same_arguments(args: tuple[Any, ...], saved: list[str]) -> None:
    """``ValueError`` if the arguments differ from those of the checkpoint."""
    given = fingerprints(args)
    if len(given) != len(saved):
        raise ValueError(f"expected the {len(saved)} arguments of the checkpoint, got {len(given)}")
    changed = [position for position, (one, two) in enumerate(zip(given, saved, strict=True)) if one != two]
    if changed:
        raise ValueError(f"expected the data of the checkpoint, got other values in the arguments {changed}")


def check_density(value: Tensor, grad: Tensor, saved: dict[str, Any], tolerance: float) -> None:
    """``ValueError`` if log density (chain,) and gradient (chain, dim) differ from those saved by more than rounding.

    A large constant in the log density may hide a small change of the model, so gradients are compared as well, to
    ``tolerance`` times their norm.
    """
    expected, expected_grad = saved["value"].to(value), saved["grad"].to(grad)
    rounding = 64 * torch.finfo(value.dtype).eps * (expected.abs() + 1)
    wrong = ~((value - expected).abs() <= rounding)
    if bool(wrong.any()):
        raise ValueError(
            f"expected the model and data of the checkpoint, got a log density of {float(value[wrong][0]):.9g} instead "
            f"of {float(expected[wrong][0]):.9g}"
        )
    distance = (grad - expected_grad).norm(dim=-1)
    wrong = ~(distance <= tolerance * (expected_grad.norm(dim=-1) + 1) + rounding / 16)
    if bool(wrong.any()):
        raise ValueError(
            f"expected the model and data of the checkpoint, got a gradient of the log density that differs by "
            f"{float(distance[wrong][0]):.3g}"
        )
