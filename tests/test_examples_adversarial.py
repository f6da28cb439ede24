"""Examples of adversarial training as a person runs them, with ``--quick``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEYS = ("modes_min", "modes_mean", "high_quality_mean", "reverse_kl_mean", "seconds")

pytestmark = pytest.mark.slow


def test_clusters(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / "gan_clusters.py"), "--quick", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    for data in ("ring", "grid"):
        for recipe in ("plain", "best"):
            assert {f"{data}.{recipe}.{key}" for key in KEYS} <= report["metrics"].keys()
    # Even so short, the grid's clusters are met by more than a few.
    assert report["metrics"]["grid.best.modes_mean"] > 8
    assert (tmp_path / "gan-clusters.png").stat().st_size > 20_000
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert again.returncode == 0
    assert json.loads((tmp_path / "report.json").read_text())["metrics"] == report["metrics"]
