"""The example of digits as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice

KEYS = ("classes", "class_kl", "kernel_distance", "kernel_distance_real", "precision", "recall")


@pytest.mark.slow
def test_the_report_compares_generated_with_real_digits(tmp_path: Path) -> None:
    metrics = run_twice("gan_digits", tmp_path)
    assert set(KEYS) <= metrics.keys()
    assert metrics["classes_real"] == 10
    assert metrics["kernel_distance_real"] < metrics["kernel_distance"]
    names = {"gan-digits-stages.png", "gan-digits-curves.png", "gan-digits.gif"}
    assert names <= {path.name for path in tmp_path.iterdir()}
