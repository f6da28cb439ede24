"""Command-line options, figures and reports that all examples share."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from posterity.files import replacing

PACKAGES = ("posterity", "torch", "pyro-ppl", "arviz", "numpy", "scipy", "xarray", "matplotlib")


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """The parser with the options that all examples have: ``--out``, ``--seed``, ``--quick``."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.set_defaults(example=name)
    options.add_argument("--out", type=Path, default=Path("out") / name, help="folder of figures and report")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    return options


def write_json(path: Path, content: Any) -> Path:
    """Write under a temporary name, then rename, so that a crash leaves the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def write_report(
    out: Path, example: str, metrics: dict[str, float], *, seed: int, quick: bool, wall_seconds: float
) -> Path:
    """Write ``report.json``: metrics by name, with the command, seed, versions and device that repeat them.

    Metrics that are NaN or infinite are left out and named under ``not_finite``.
    """
    device = f"cpu ({platform.machine()}, {os.cpu_count()} cores, 1 thread a fit)"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, {device}"
    bad = sorted(name for name, value in metrics.items() if not np.isfinite(value))
    report = {
        "example": example,
        "command": " ".join(["python", f"examples/{example}.py", *sys.argv[1:]]),
        "seed": seed,
        "quick": quick,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": device,
        "wall_seconds": round(wall_seconds, 1),
        "metrics": {name: value for name, value in sorted(metrics.items()) if name not in bad},
    }
    if bad:
        report["not_finite"] = bad
    return write_json(out / "report.json", report)


def finish(args: argparse.Namespace, metrics: dict[str, float], figures: Iterable[Path], *, seconds: float) -> int:
    """Write the report, print the paths of all files, and return the exit status."""
    report = write_report(args.out, args.example, metrics, seed=args.seed, quick=args.quick, wall_seconds=seconds)
    print(f"\nfigures: {', '.join(map(str, figures))}\nnumbers: {report}")
    return 0


def earlier_seconds(out: Path) -> float:
    """Wall seconds in the report of an earlier run whose fits are reused; 0 without one."""
    path = out / "report.json"
    return float(json.loads(path.read_text())["wall_seconds"]) if path.exists() else 0.0


def inches(width: float, height: float) -> tuple[float, float]:
    """The size of a figure at matplotlib's default font size; larger in proportion for a larger font size."""
    scale = max(1.0, mpl.rcParams["font.size"] / mpl.rcParamsDefault["font.size"])
    return scale * width, scale * height


def save_arrays(path: Path, **arrays: Any) -> Path:
    """Write arrays or tensors by name to one file, under a temporary name, then rename; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: np.asarray(value) for name, value in arrays.items()})
    return path


def save_figure(figure: Any, path: Path) -> Path:
    """Write a PNG under a temporary name, then rename."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return path
