"""What the package, its build settings and its citation say of the project is the same."""

import re
import tomllib
from pathlib import Path

import posterity

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = (ROOT / "CITATION.cff").read_text()


def cited(name: str) -> str:
    """The value of a line ``name: value`` of CITATION.cff."""
    (value,) = re.findall(rf'^{name}: "?([^"\n]*)"?$', CITATION, re.MULTILINE)
    return value


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == posterity.__version__ == cited("version")
    assert f"## {posterity.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_of_this_project():
    assert cited("title") == PROJECT["name"]
    assert cited("license") == PROJECT["license"]
    assert cited("repository-code") == PROJECT["urls"]["Repository"]
    assert PROJECT["description"] in CITATION
    for name in [author["name"] for author in PROJECT["authors"]] + PROJECT["keywords"]:
        assert f'"{name}"' in CITATION


def test_the_front_page_of_the_package_is_its_description():
    assert posterity.__doc__.splitlines()[0] == PROJECT["description"] + "."
