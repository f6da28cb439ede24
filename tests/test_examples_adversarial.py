"""Examples of adversarial training as a person runs them, with ``--quick``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLUSTERS = ("modes_min", "modes_mean", "high_quality_mean", "reverse_kl_mean", "sd_ratio_mean", "seconds")
IMAGES = ("classes", "class_kl", "kernel_distance", "kernel_distance_real", "precision", "recall")

pytestmark = pytest.mark.slow


def run(name: str, out: Path) -> dict[str, float]:
    """The metrics of a quick run; the same again from what it kept, without a training."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--quick", "--out", str(out)]
    found = []
    for limit in (400, 100):
        result = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        report = json.loads((out / "report.json").read_text())
        assert report["example"] == name
        assert report["quick"]
        assert "not_finite" not in report
        found.append(report["metrics"])
    assert found[0] == found[1]
    for picture in out.glob("*.png"):
        assert picture.stat().st_size > 20_000
    return found[0]


def test_clusters(tmp_path: Path) -> None:
    metrics = run("gan_clusters", tmp_path)
    assert {
        f"{data}.{recipe}.{key}" for data in ("ring", "grid") for recipe in ("plain", "best") for key in CLUSTERS
    } <= (metrics.keys())
    assert metrics["grid.best.modes_mean"] > 8  # even so short
    assert (tmp_path / "gan-clusters.png").exists()


def test_bayesian(tmp_path: Path) -> None:
    metrics = run("gan_bayesian", tmp_path)
    keys = {f"grid.{kind}.{key}" for kind in ("single", "bayesian") for key in ("modes_mean", "high_quality_mean")}
    assert keys | {"grid.bayesian.relative_spread_mean"} <= metrics.keys()
    assert (tmp_path / "gan-bayesian.png").exists()


def test_digits(tmp_path: Path) -> None:
    metrics = run("gan_digits", tmp_path)
    assert set(IMAGES) <= metrics.keys()
    assert metrics["classes_real"] == 10
    assert metrics["kernel_distance_real"] < metrics["kernel_distance"]
    assert {"gan-digits-stages.png", "gan-digits-curves.png", "gan-digits.gif"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_failing(tmp_path: Path) -> None:
    metrics = run("gan_failing", tmp_path)
    keys = {"strong.saturation_step", "strong.mode_collapse_step", "strong.steps"}
    assert keys | {"healthy.false_alarms", "repaired.false_alarms"} <= metrics.keys()
    assert (tmp_path / "gan-failing.png").exists()


def test_dcgan(tmp_path: Path) -> None:
    metrics = run("dcgan", tmp_path)
    assert {
        f"mnist.{kind}.{key}" for kind in ("dense", "dense_long", "batch_norm", "no_norm") for key in IMAGES
    } <= metrics.keys()
    assert {"dcgan-samples.png", "dcgan-walk.png", "dcgan-precision-recall.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
