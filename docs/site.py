"""Hooks of the site: pictures of the examples, links from names to the reference, and formulas as MathML."""

import html
import importlib
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FIGURES = {
    "gallery": ROOT / "examples" / "results",
    "benchmarks": ROOT / "benchmarks" / "results",
}
# Where a name stands in two packages, links lead to the first.
PACKAGES = (
    "inference",
    "models",
    "inference.diagnostics",
    "inference.plots",
    "inference.estimators",
    "data",
    "inference.adversarial",
    "inference.adversarial.metrics",
    "inference.adversarial.monitors",
    "inference.tracking",
    "models.tracking",
)
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL
)
# Names stay as they are in links, headings and blocks of code.
UNTOUCHED = re.compile(r"(<(a|pre|h[1-6]|autoref|nav)\b.*?</\2>)", re.DOTALL)
NAME = re.compile(r"<code>([A-Za-z_][\w.]*)(?:\(\))?</code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures of examples and benchmarks, which are stored beside their reports, and the changelog."""
    for folder, source in FIGURES.items():
        for path in sorted(source.rglob("*")):
            if path.suffix in (".png", ".gif"):
                files.append(
                    File.generated(
                        config, f"{folder}/{path.name}", abs_src_path=str(path)
                    )
                )
    files.append(
        File.generated(
            config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")
        )
    )
    return files


def public_names() -> dict[str, str]:
    """The dotted path of every public name that a page may mention alone."""
    paths: dict[str, str] = {}
    for package in (f"posterity.{name}" for name in PACKAGES):
        for name in importlib.import_module(package).__all__:
            paths.setdefault(name, f"{package}.{name}")
    return paths


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.extra["names"] = public_names()
    return config


def linked(text: str, names: dict[str, str]) -> str:
    """A span of code that is a public name, or a method of one, becomes a link to the reference."""

    def link(found: re.Match[str]) -> str:
        first, _, rest = found[1].partition(".")
        if first in names:
            target = names[first] + (f".{rest}" if rest else "")
        elif first == "posterity" and rest:
            target = found[1]
        else:
            return found[0]
        return f'<autoref identifier="{target}" optional>{found[0]}</autoref>'

    parts = UNTOUCHED.split(text)
    # Two groups: each untouched part is followed by the name of its tag.
    return "".join(
        NAME.sub(link, part) if place % 3 == 0 else part
        for place, part in enumerate(parts)
        if place % 3 != 2
    )


def formula(found: re.Match[str]) -> str:
    display = "block" if found[2] == "[" else "inline"
    return convert(html.unescape(found[3]).strip(), display=display)


def on_page_content(text: str, config: MkDocsConfig, **kept: Any) -> str:
    return linked(FORMULA.sub(formula, text), config.extra["names"])
