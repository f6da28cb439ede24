"""Reads docstrings for the site: examples that begin with >>> become blocks of code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


def fenced(found: re.Match[str]) -> str:
    indent = found[1]
    return f"{indent}```pycon\n{found[0].rstrip()}\n{indent}```"


class Doctests(griffe.Extension):
    """Fences the examples of each docstring, so that Markdown does not read their output as links."""

    def on_object(self, *, obj: griffe.Object, **kept: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)
