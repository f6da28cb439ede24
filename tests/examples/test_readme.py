"""Every block of Python in the README runs by itself, with shorter runs, and the README stays short."""

import re
from pathlib import Path

import pytest

from tests.examples_run import ROOT, readme_block, run_readme

SECTIONS = re.compile(r'section="## ([^"]+)"')
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_estimator_in_the_readme_runs(tmp_path: Path) -> None:
    """Three means and errors, by a posterior mode to save time, and the pull plot."""
    few = 'BayesianRegressor(random_state=0, method="map")'
    printed = run_readme(tmp_path, "BayesianRegressor(random_state=0)", few, section="## A table")
    assert printed.count("[") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["pulls.png"]


@pytest.mark.slow
def test_the_model_in_the_readme_runs(tmp_path: Path) -> None:
    printed = run_readme(tmp_path, "warmup=200, draws=200", "warmup=30, draws=20", section="## Your own")
    assert "epistemic" in printed
    assert "elpd_loo" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["geyser.post"]


def test_every_block_of_the_readme_is_run_by_a_test() -> None:
    headings = [part.splitlines()[0] for part in README.split("\n## ")[1:] if "```python" in part]
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [heading for heading in headings if not any(heading.startswith(s) for s in SECTIONS.findall(tests))]
    assert len(headings) == README.count("```python")
    assert not missing


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert len(readme_block("## A table").strip().splitlines()) <= 15
    assert len(readme_block("## Your own").strip().splitlines()) <= 28


def test_the_links_of_the_readme_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
