"""The example of model comparison as a person runs it, with ``--quick``, and what it refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.examples_run import script, start

MODELS = ("map", "bnn_homo", "bnn_hetero", "mdn", "bayesian_mdn")
PER_MODEL = (
    *("elpd", "elpd_se", "crps", "crps_se", "pull_mean", "pull_mean_se", "pull_width", "pull_width_se"),
    *("coverage50", "coverage90", "pit_p", "noise", "ambiguity", "epistemic", "seconds"),
)
SAMPLED = (
    *("rhat_mean", "rhat_scale", "rhat_lp", "rhat_max", "ess_mean", "ess_scale", "ess_lp", "ess_min"),
    *("divergences", "transitions", "gradients"),
)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The script as a module, to test the arguments that it refuses before it fits."""
    with script("compare_uncertainty") as module:
        yield module


@pytest.mark.parametrize(
    ("content", "y", "message"),
    [
        ("a,b\n1,2\n3,nan\n5,6\n", "b", "'b'"),
        ("a,b\n1,2\n3,four\n5,6\n", "b", "'b'"),
        ("a,b\n1,2\n3,2\n5,2\n", "b", "'b'"),
        ("a,b\n", "b", "expected rows"),
        ("a,b\n1,2\n3,4\n", "c", "'c'"),
        ("a,b\n1,2\n3,4\n5,1\n", "b", "folds"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(
    example: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, y: str, message: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(SystemExit, match="2"):
        example.main(["--data", str(table), "--x", "a", "--y", y, "--quick", "--out", str(tmp_path / "out")])
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_an_unknown_data_set_is_refused(example: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="mcycle, geyser, inverse, or a CSV file"):
        example.main(["--data", "nothing", "--out", str(tmp_path)])


@pytest.mark.slow
def test_a_users_table_is_compared_and_a_repeated_run_reuses_its_fits(tmp_path: Path) -> None:
    """The noise grows with x, so noise as an output must score better than one noise."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 3, 150)
    y = np.sin(2 * x) + (0.02 + 0.3 * x**2) * generator.standard_normal(150)
    table = tmp_path / "mine.csv"
    table.write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in zip(x, y, strict=True)))
    out = tmp_path / "out"
    command = ["--data", str(table), "--x", "x", "--y", "y", "--quick", "--out", str(out)]
    result = start("compare_uncertainty", *command)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((out / "report.json").read_text())
    metrics = report["metrics"]
    assert report["example"] == "compare_uncertainty"
    assert report["quick"] is True
    assert {f"mine.{model}.{key}" for model in MODELS for key in PER_MODEL} <= set(metrics)
    for model in MODELS:
        shares = [metrics[f"mine.{model}.{key}"] for key in ("noise", "ambiguity", "epistemic")]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    for model in ("bnn_homo", "bnn_hetero"):
        assert {f"mine.{model}.{key}" for key in SAMPLED} <= set(metrics)
        assert metrics[f"mine.{model}.rhat_max"] < 1.05  # 16 chains, started from the prior
        assert metrics[f"mine.{model}.ess_min"] > 400
        assert metrics[f"mine.{model}.divergences"] < 0.02 * metrics[f"mine.{model}.transitions"]
    assert metrics["mine.hetero_minus_homo.elpd"] > 0
    assert metrics["mine.bnn_hetero.ambiguity"] == pytest.approx(0, abs=1e-9)
    assert metrics["mine.map.epistemic"] == pytest.approx(0, abs=1e-9)
    figures = {path.name for path in out.glob("*.png")}
    assert figures == {f"mine-{page}.png" for page in ("density", "bands", "split", "pulls", "calibration")}
    assert not list(out.rglob("*.part*"))
    again = start("compare_uncertainty", *command, limit=120)  # without a new fit
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((out / "report.json").read_text())["metrics"] == metrics
