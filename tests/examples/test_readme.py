"""Every block of Python in the README runs by itself; long runs are shortened."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.examples_run import ROOT, readme_block, run_readme

SECTIONS = re.compile(r'section="## ([^"]+)"')


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
def test_the_adversarial_training_in_the_readme_runs(tmp_path: Path) -> None:
    run_readme(tmp_path, "steps=5000", "steps=500", section="## Adversarial training")
    assert {path.name for path in tmp_path.iterdir()} == {"gan.pt", "pictures"}
    assert (tmp_path / "pictures" / "00000500.png").exists()


@pytest.mark.slow
def test_the_panel_in_the_readme_runs(tmp_path: Path) -> None:
    printed = run_readme(tmp_path, "900", "600", section="## Is the uncertainty right?")
    assert "the widths of components are wrong" in printed
    assert "component_weight" in printed


@pytest.mark.slow
def test_the_finder_in_the_readme_runs(tmp_path: Path) -> None:
    printed = run_readme(tmp_path, "steps=150", "steps=30", section="## Finding tracks")
    assert printed.count("efficiency") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["finder.checkpoint"]


@pytest.mark.slow
def test_the_estimator_in_the_readme_runs(tmp_path: Path) -> None:
    """Three intervals of y, by a posterior mode to save time."""
    few = 'BayesianRegressor(random_state=0, method="map")'
    printed = run_readme(tmp_path, "BayesianRegressor(random_state=0)", few, section="## From a frame")
    assert printed.count("[") == 4
