"""The code of the README and of each page of the site runs: all its blocks in order, as one script, in an empty folder.

A line ``<!-- test: "long" -> "short" -->`` of a page shortens its code for the test, ``<!-- not run: why -->`` before a
block leaves it out, ``<!-- needs: package -->`` skips the page where that package is not installed, and
``<!-- prints: "text" -->`` is found in what the page prints.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LEFT_OUT = re.compile(r"<!-- not run: .+? -->\s*```python\n.*?^```", re.DOTALL | re.MULTILINE)
SHORTER = re.compile(r'<!-- test: "(.*?)" -> "(.*?)" -->')
PRINTS = re.compile(r'<!-- prints: "(.*?)" -->')
NEEDS = re.compile(r"<!-- needs: (\w+) -->")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def program(page: str) -> str:
    text = text_of(page)
    code = "\n".join(BLOCK.findall(LEFT_OUT.sub("", text)))
    for long, short in SHORTER.findall(text):
        assert long in code, f"{page} shortens {long!r}, which is not in its code"
        code = code.replace(long, short)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if program(page)])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    for package in NEEDS.findall(text_of(page)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{page} needs {package}, which is not installed")
    script = tmp_path / "page.py"  # a file, because some pages start processes
    script.write_text("import warnings\nwarnings.simplefilter('ignore')\n" + program(page))
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    missing = [text for text in PRINTS.findall(text_of(page)) if text not in run.stdout]
    assert not missing, run.stdout[-3000:]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_compiles(page: str) -> None:
    """All of it, with the blocks that no test runs."""
    for block in BLOCK.findall(text_of(page)):
        compile(block, page, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_title_and_says_what_its_pictures_show(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1
    assert "![](" not in prose
