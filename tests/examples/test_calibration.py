"""The example of calibration as a person runs it, with ``--quick``."""

from pathlib import Path

import numpy as np
import pytest

from posterity.inference.diagnostics.calibration.panel import SEES
from tests.examples_run import run_twice, script

FAULTS = ("sigma08", "sigma125", "bias", "weights", "shift", "unimodal")


@pytest.mark.slow
def test_each_fault_is_detected_by_its_test_and_the_right_model_passes(tmp_path: Path) -> None:
    """40 repetitions: the right model is rejected in less than 5 % + 3.5 standard errors (12 %), powers likewise."""
    metrics = run_twice("calibration", tmp_path)
    pages = {f"calibration-{name}.png" for name in ("seen", "right", *FAULTS)}
    assert {path.name for path in tmp_path.glob("*.png")} == pages
    null = {name: value for name, value in metrics.items() if name.startswith("null.")}
    assert set(null) == {f"null.{test}.rejection" for test in (*SEES, "together")}
    assert all(value < 0.17 for value in null.values()), null
    for fault, test, least in (
        ("sigma08", "pull_width", 0.85),
        ("sigma08", "component_width", 0.85),
        ("weights", "component_weight", 0.85),
        ("shift", "component_shift", 0.65),
        ("unimodal", "chi2", 0.85),
    ):
        assert metrics[f"power.{fault}.{test}.rejection"] > least - 3.5 * (least * (1 - least) / 40) ** 0.5, (
            fault,
            test,
        )
    assert metrics["width.right.nearest"] == pytest.approx(0.907, abs=0.02)
    assert metrics["width.right.gaussianised"] == pytest.approx(1, abs=0.02)
    assert metrics["width.unimodal.moment"] == pytest.approx(1, abs=0.02)
    assert metrics["moment_ks.right.rejection"] > 0.6
    for name in ("normal", "t5", "bimodal"):
        assert metrics[f"width_interval.{name}.coverage68"] == pytest.approx(0.68, abs=0.08)


def test_the_data_follow_the_right_model() -> None:
    """Mean and standard deviation of 20,000 standardised values within 4 standard errors."""
    with script("calibration") as example:
        x, y = example._data(np.random.default_rng(0), 20_000)
        right = example._model("right", x)
        z = ((y - right.mean) / right.variance.sqrt()).numpy()
        assert abs(z.mean()) < 4 / np.sqrt(20_000)
        assert abs(z.std() - 1) < 4 * np.sqrt(0.25 / 20_000)
        normal = example._model("unimodal", x)
        assert float((normal.mean - right.mean).abs().max()) < 1e-12
        assert float((normal.variance - right.variance).abs().max()) < 1e-12
