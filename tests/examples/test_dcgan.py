"""The example of DCGANs as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice

KEYS = ("classes", "class_kl", "kernel_distance", "kernel_distance_real", "precision", "recall")


@pytest.mark.slow
def test_the_report_compares_dcgans_with_dense_gans(tmp_path: Path) -> None:
    metrics = run_twice("dcgan", tmp_path)
    variants = ("dense", "dense_long", "batch_norm", "no_norm")
    assert {f"mnist.{variant}.{key}" for variant in variants for key in KEYS} <= metrics.keys()
    names = {"dcgan-samples.png", "dcgan-walk.png", "dcgan-precision-recall.png"}
    assert names <= {path.name for path in tmp_path.iterdir()}
