"""Examples of adversarial training as a person runs them, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice

CLUSTERS = ("modes_min", "modes_mean", "high_quality_mean", "reverse_kl_mean", "sd_ratio_mean", "seconds")
IMAGES = ("classes", "class_kl", "kernel_distance", "kernel_distance_real", "precision", "recall")

pytestmark = pytest.mark.slow


def test_clusters(tmp_path: Path) -> None:
    metrics = run_twice("gan_clusters", tmp_path)
    assert {
        f"{data}.{recipe}.{key}" for data in ("ring", "grid") for recipe in ("plain", "best") for key in CLUSTERS
    } <= (metrics.keys())
    assert metrics["ring.best.modes_mean"] == 8
    assert metrics["grid.best.modes_mean"] >= 24
    for data in ("ring", "grid"):
        assert metrics[f"{data}.best.high_quality_mean"] > max(0.5, 2 * metrics[f"{data}.plain.high_quality_mean"])
    assert (tmp_path / "gan-clusters.png").exists()


def test_bayesian(tmp_path: Path) -> None:
    metrics = run_twice("gan_bayesian", tmp_path)
    keys = {f"grid.{kind}.{key}" for kind in ("single", "bayesian") for key in ("modes_mean", "high_quality_mean")}
    assert keys | {"grid.bayesian.relative_spread_mean"} <= metrics.keys()
    assert (tmp_path / "gan-bayesian.png").exists()


def test_digits(tmp_path: Path) -> None:
    metrics = run_twice("gan_digits", tmp_path)
    assert set(IMAGES) <= metrics.keys()
    assert metrics["classes_real"] == 10
    assert metrics["kernel_distance_real"] < metrics["kernel_distance"]
    assert {"gan-digits-stages.png", "gan-digits-curves.png", "gan-digits.gif"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_failing(tmp_path: Path) -> None:
    metrics = run_twice("gan_failing", tmp_path)
    keys = {"strong.saturation_step", "strong.mode_collapse_step", "strong.steps"}
    assert keys | {"healthy.false_alarms", "repaired.false_alarms"} <= metrics.keys()
    assert (tmp_path / "gan-failing.png").exists()


def test_dcgan(tmp_path: Path) -> None:
    metrics = run_twice("dcgan", tmp_path)
    assert {
        f"mnist.{kind}.{key}" for kind in ("dense", "dense_long", "batch_norm", "no_norm") for key in IMAGES
    } <= metrics.keys()
    assert {"dcgan-samples.png", "dcgan-walk.png", "dcgan-precision-recall.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
