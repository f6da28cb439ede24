"""Finding tracks as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice


@pytest.mark.slow
def test_tracking(tmp_path: Path) -> None:
    metrics = run_twice("tracking", tmp_path)
    noises = (10, 20, 30)
    one = ("pull_width", "pull_width_se", "pull_mean", "nll_excess", "resolution_ratio", "component_pull_width")
    assert {f"one_track.noise{noise}.{key}" for noise in noises for key in one} <= metrics.keys()
    for noise in noises:
        assert metrics[f"one_track.noise{noise}.nll_excess"] > 0  # nothing is nearer than the exact posterior
        for chain in ("hough_kalman", "combinatorial_daf"):
            assert metrics[f"tracks2.noise{noise}.{chain}.efficiency"] > 0.8
    names = {path.name for path in tmp_path.glob("*.png")}
    assert {"tracking-events.png", "tracking-pulls.png", "tracking-counts.png"} == names
