"""The example of track finding as a person runs it, with ``--quick``."""

import json
from pathlib import Path

import pytest

from tests.examples_run import ROOT, run_twice, script, start


@pytest.mark.slow
def test_the_report_compares_networks_with_classical_finders(tmp_path: Path) -> None:
    metrics = run_twice("tracking", tmp_path)
    noises = (10, 20, 30)
    one = ("pull_width", "pull_width_se", "pull_mean", "nll_excess", "resolution_ratio", "component_pull_width")
    assert {f"one_track.noise{noise}.{key}" for noise in noises for key in one} <= metrics.keys()
    for noise in noises:
        assert metrics[f"one_track.noise{noise}.nll_excess"] > 0  # the exact posterior has the lowest expected NLL
        for finder in ("hough_kalman", "combinatorial_daf"):
            assert metrics[f"tracks2.noise{noise}.{finder}.efficiency"] > 0.8
            assert f"tracks3.noise{noise}.{finder}.core_over_limit" in metrics
        assert metrics[f"tracks2.noise{noise}.set.efficiency"] > 0.7  # after a short training
    methods = ("set", "hough_kalman", "combinatorial_daf")
    assert {f"timing.{method}.power" for method in methods} <= metrics.keys()
    assert {"gaussian_hits.mdn_over_bound", "events_per_second.generator"} <= metrics.keys()
    assert abs(metrics["gaussian_hits.kalman_over_bound"] - 1) < 4 * metrics["gaussian_hits.over_bound_se"]
    names = {path.name for path in tmp_path.glob("*.png")}
    shown = ("events", "pulls", "counts", "existence", "cost", "unlike")
    assert {f"tracking-{name}.png" for name in shown} == names


@pytest.mark.slow
def test_the_stored_networks_have_the_reported_accuracy(tmp_path: Path) -> None:
    """Test events of another seed in the numbers of a quick run: 200 of one track and 60 of three at each noise.

    The limits have a margin of 4 standard errors for so few events.
    """
    weights = ROOT / "examples" / "results" / "tracking"
    result = start("tracking", "--quick", "--seed", "77", "--weights", str(weights), "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((tmp_path / "report.json").read_text())["metrics"]
    for noise in (10, 20, 30):
        row = {key: metrics[f"one_track.noise{noise}.{key}"] for key in ("pull_width", "pull_mean", "nll_excess")}
        assert abs(row["pull_width"] - 1) < 0.05 + 4 * metrics[f"one_track.noise{noise}.pull_width_se"]
        assert abs(row["pull_mean"]) < 0.05 + 4 * metrics[f"one_track.noise{noise}.pull_mean_se"]
        assert row["nll_excess"] < 0.15 + 4 * metrics[f"one_track.noise{noise}.nll_excess_se"]
        assert metrics[f"tracks3.noise{noise}.set.efficiency"] > 0.95 - 4 * (0.05 * 0.95 / 180) ** 0.5
        assert metrics[f"tracks3.noise{noise}.set.fake_rate"] < 0.05 + 4 * (0.05 * 0.95 / 180) ** 0.5
    assert not list(tmp_path.glob("*.checkpoint"))  # nothing was trained
    if (weights / "line-0.pt").exists():
        assert metrics["gaussian_hits.mdn_over_bound"] < 1.02 + 4 * metrics["gaussian_hits.over_bound_se"]
    else:
        assert "gaussian_hits.mdn_over_bound" not in metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "1.5"], "expected noises of at least 0 and below 1"),
        (["--tracks", "-1"], "expected numbers of tracks of 1 or more"),
        (["--head", "none"], "invalid choice"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with script("tracking") as module, pytest.raises(SystemExit):
        module.main(arguments)
    assert message in capsys.readouterr().err
