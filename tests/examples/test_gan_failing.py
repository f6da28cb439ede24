"""The example of failed training as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice


@pytest.mark.slow
def test_the_report_has_the_steps_of_all_alarms(tmp_path: Path) -> None:
    metrics = run_twice("gan_failing", tmp_path)
    keys = {"strong.saturation_step", "strong.mode_collapse_step", "strong.steps"}
    assert keys | {"healthy.false_alarms", "repaired.false_alarms"} <= metrics.keys()
    assert (tmp_path / "gan-failing.png").exists()
