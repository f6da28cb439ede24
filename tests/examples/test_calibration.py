"""The example of calibration as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from posterity.inference.diagnostics.calibration.panel import SEES
from tests.examples_run import run_readme, run_twice, script

FAULTS = ("sigma08", "sigma125", "bias", "weights", "shift", "unimodal")


@pytest.mark.slow
def test_each_fault_is_seen_by_its_test_and_the_right_model_passes(tmp_path: Path) -> None:
    """40 repetitions: rejections of the right model below .05 + 3.5 standard errors (.12), powers by as much."""
    found = run_twice("calibration", tmp_path)
    pages = {f"calibration-{name}.png" for name in ("seen", "right", *FAULTS)}
    assert {path.name for path in tmp_path.glob("*.png")} == pages
    null = {name: value for name, value in found.items() if name.startswith("null.")}
    assert set(null) == {f"null.{test}.rejection" for test in (*SEES, "together")}
    assert all(value < 0.17 for value in null.values()), null
    for fault, test, least in (
        ("sigma08", "pull_width", 0.85),
        ("sigma08", "component_width", 0.85),
        ("weights", "component_weight", 0.85),
        ("shift", "component_shift", 0.65),
        ("unimodal", "chi2", 0.85),
    ):
        assert found[f"power.{fault}.{test}.rejection"] > least - 3.5 * (least * (1 - least) / 40) ** 0.5, (fault, test)
    assert found["width.right.nearest"] == pytest.approx(0.907, abs=0.02)
    assert found["width.right.gaussianised"] == pytest.approx(1, abs=0.02)
    assert found["width.unimodal.moment"] == pytest.approx(1, abs=0.02)
    assert found["moment_ks.right.rejection"] > 0.6
    for name in ("normal", "t5", "bimodal"):
        assert found[f"width_interval.{name}.coverage68"] == pytest.approx(0.68, abs=0.08)


def test_data_are_those_of_the_right_model() -> None:
    """20,000 values: the share of the upper branch and the variance, 4 standard errors."""
    import numpy as np

    with script("calibration") as example:
        x, y = example._data(np.random.default_rng(0), 20_000)
        right = example._model("right", x)
        z = ((y - right.mean) / right.variance.sqrt()).numpy()
        assert abs(z.mean()) < 4 / np.sqrt(20_000)
        assert abs(z.std() - 1) < 4 * np.sqrt(0.25 / 20_000)
        normal = example._model("unimodal", x)
        assert float((normal.mean - right.mean).abs().max()) < 1e-12
        assert float((normal.variance - right.variance).abs().max()) < 1e-12


@pytest.mark.slow
def test_the_panel_in_the_readme_runs(tmp_path: Path) -> None:
    printed = run_readme(tmp_path, "900", "600", section="## Is the uncertainty right?")
    assert "the widths of components are wrong" in printed
    assert "component_weight" in printed
