"""Examples as a person runs them: in a process of their own, with ``--quick``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.examples_run import ROOT, readme_block, run_readme, script, start

SECTIONS = re.compile(r'section="## ([^"]+)"')
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
    """The script as a module, for what it refuses before it fits anything."""
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
def test_compare_uncertainty_quick_on_a_table_of_ones_own_and_again(tmp_path: Path) -> None:
    """Noise that grows with x: noise as an output must win over one noise, and a repeated run takes up its fits."""
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
        assert metrics[f"mine.{model}.rhat_max"] < 1.05  # 16 chains, started as spread as the prior
        assert metrics[f"mine.{model}.ess_min"] > 400
        assert metrics[f"mine.{model}.divergences"] < 0.02 * metrics[f"mine.{model}.transitions"]
    assert metrics["mine.hetero_minus_homo.elpd"] > 0
    assert metrics["mine.bnn_hetero.ambiguity"] == pytest.approx(0, abs=1e-9)
    assert metrics["mine.map.epistemic"] == pytest.approx(0, abs=1e-9)
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {f"mine-{page}.png" for page in ("density", "bands", "split", "pulls", "calibration")}
    assert not list(out.rglob("*.part*"))
    again = start("compare_uncertainty", *command, limit=120)  # nothing is fitted a second time
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((out / "report.json").read_text())["metrics"] == metrics


@pytest.mark.slow
def test_the_model_in_the_readme_runs(tmp_path: Path) -> None:
    assert len(readme_block().strip().splitlines()) <= 28
    printed = run_readme(tmp_path, "warmup=200, draws=200", "warmup=30, draws=20")
    assert "epistemic" in printed
    assert "elpd_loo" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["geyser.post"]


@pytest.mark.slow
def test_the_mixtures_in_the_readme_run_by_themselves(tmp_path: Path) -> None:
    """The last number is the coverage of 90 % regions of 100 draws: binomial, 4 standard errors."""
    printed = run_readme(tmp_path, section="## Mixtures")
    assert abs(float(printed.split("tensor(")[-1].rstrip().rstrip(")")) - 0.9) < 4 * np.sqrt(0.09 / 100)


@pytest.mark.slow
def test_the_samplers_in_the_readme_run_by_themselves(tmp_path: Path) -> None:
    few = "warmup=50, draws=20"
    replaced = [
        *("NUTS(chains=16)", f"NUTS(chains=4, {few})"),
        *("HMC(chains=32, max_seconds=60)", f"HMC(chains=4, {few}, max_seconds=60)"),
        *("HMC(chains=32, draws=5000, target_ess=4000)", "HMC(chains=4, warmup=50, draws=100, target_ess=40)"),
        *('HMC(checkpoint="run.pt")', f'HMC(chains=4, {few}, checkpoint="run.pt")'),
        *("y, draws=2000)", "y, draws=40)"),
        *("HMC(chains=64), blocks=4", f"HMC(chains=4, {few}), blocks=2"),
    ]
    run_readme(tmp_path, *replaced, section="## Sampling")
    assert (tmp_path / "run.pt").exists()


def test_every_block_of_the_readme_is_run_by_a_test() -> None:
    """By its heading, in the tests of examples; the first block has no heading in `run_readme`."""
    text = (ROOT / "README.md").read_text()
    headings = [part.splitlines()[0] for part in text.split("\n## ")[1:] if "```python" in part]
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [heading for heading in headings[1:] if not any(heading.startswith(s) for s in SECTIONS.findall(tests))]
    assert len(headings) == text.count("```python")
    assert not missing


@pytest.mark.slow
def test_the_adversarial_game_in_the_readme_runs(tmp_path: Path) -> None:
    run_readme(tmp_path, "steps=5000", "steps=500", section="## Adversarial training")
    assert {path.name for path in tmp_path.iterdir()} == {"gan.pt", "pictures"}
    assert (tmp_path / "pictures" / "00000500.png").exists()
