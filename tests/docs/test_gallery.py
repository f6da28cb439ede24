"""Every example is in the gallery and in the index of the examples, with its picture and the time of its report."""

import functools
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("_"))
GALLERY = (ROOT / "docs" / "gallery.md").read_text()
INDEX = (EXAMPLES / "README.md").read_text()


@functools.cache
def minutes(script: str) -> float:
    """The time of the full run in minutes, as its report has it."""
    report = json.loads((EXAMPLES / "results" / f"{script}.json").read_text())
    assert not report["quick"]
    return float(report["wall_seconds"]) / 60


def section(script: str) -> str:
    """The section of the gallery with the anchor of this script."""
    parts = [part for part in re.split(r"^(?=##)", GALLERY, flags=re.MULTILINE) if f"{{ #{script} }}" in part]
    assert len(parts) == 1, f"expected one section of docs/gallery.md with the anchor #{script}, got {len(parts)}"
    return parts[0]


def row(script: str) -> list[str]:
    """The cells of this script's row in the index of examples/README.md."""
    rows = re.findall(rf"^\| \[`{script}\.py`\]\({script}\.py\) \|.*$", INDEX, re.MULTILINE)
    assert len(rows) == 1, f"expected one row of examples/README.md for {script}.py, got {len(rows)}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_gallery_has_the_script_its_picture_and_its_time(script: str) -> None:
    text = section(script)
    assert f"https://github.com/posterity-uq/posterity/blob/main/examples/{script}.py" in text
    assert f"    python examples/{script}.py" in text
    pictures = re.findall(r"]\(gallery/(\S+?)\)", text)
    assert pictures
    for picture in pictures:
        assert (EXAMPLES / "results" / picture).exists(), picture
    stated = re.findall(r"^Time: (\d+) minutes on two cores\.", text, re.MULTILINE)
    assert stated == [f"{minutes(script):.0f}"]
    cards = GALLERY.partition("</div>")[0]
    assert cards.count(f"](#{script})") == 2, f"expected a card with a picture and a link to #{script}"
    assert f"](gallery/{pictures[0]})" in cards


@pytest.mark.parametrize("script", SCRIPTS)
def test_index_has_the_script_its_time_and_its_picture(script: str) -> None:
    _, question, time, picture = row(script)
    assert question.endswith((".", "?"))
    assert time == f"{minutes(script):.0f} min"
    (path,) = re.findall(r"\]\((\S+)\)", picture)
    assert (EXAMPLES / path).exists()


def test_gallery_and_index_name_no_other_script() -> None:
    assert sorted(re.findall(r"\{ #(\w+) \}", GALLERY)) == SCRIPTS
    assert sorted(re.findall(r"^\| \[`(\w+)\.py`\]", INDEX, re.MULTILINE)) == SCRIPTS


@pytest.mark.parametrize(("folder", "source"), [("gallery", "examples/results"), ("benchmarks", "benchmarks/results")])
def test_pictures_of_all_pages_exist(folder: str, source: str) -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for picture in re.findall(rf"]\((?:\.\./)*{folder}/(\S+?\.(?:png|gif))\)", page.read_text()):
            assert (ROOT / source / picture).exists(), f"{page.name} shows {picture}"
