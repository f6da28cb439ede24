"""The README is short, and its links exist. Its code runs with that of the site, in ``tests/docs/test_pages.py``."""

import re

from tests.examples_run import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    without, with_pyro, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(without.strip().splitlines()) <= 15
    assert len(with_pyro.strip().splitlines()) <= 28


def test_the_links_of_the_readme_exist() -> None:
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
