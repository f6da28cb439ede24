"""The reference documents every public name: those in ``__all__`` of each public package."""

import importlib
import pkgutil
import re
from pathlib import Path

import posterity

PAGES = sorted((Path(__file__).parents[2] / "docs" / "reference").glob("*.md"))
# Their names are those of packages that have a page, or are parts of the library that no model needs.
INTERNAL = {
    "posterity.inference.convergence",
    "posterity.inference.mcmc",
    "posterity.models.mixtures",
    "posterity.inference.engine.lanes",
    "posterity.inference.engine.lanes.rules",
}


def documented() -> dict[str, set[str] | None]:
    """The members that the reference lists of each module; None: all that are public."""
    found: dict[str, set[str] | None] = {}
    for page in PAGES:
        for module, options in re.findall(r"^::: (\S+)\n((?:    .*\n)*)", page.read_text(), re.MULTILINE):
            names = re.findall(r"^        - (\w+)$", options, re.MULTILINE)
            parent, _, name = module.rpartition(".")
            if parent.endswith(f".{name}"):  # a function that shares the name of its module
                module, names = parent, [name]
            found[module] = set(names) if names else None
    return found


def test_every_public_package_has_a_page() -> None:
    packages = {
        module.name
        for module in pkgutil.walk_packages(posterity.__path__, "posterity.")
        if module.ispkg and getattr(importlib.import_module(module.name), "__all__", None)
    }
    assert packages - INTERNAL <= {module for module, names in documented().items() if names is None}


def test_every_name_of_an_internal_package_is_documented_elsewhere() -> None:
    pages = documented()
    public = {
        id(getattr(importlib.import_module(module), name))
        for module, names in pages.items()
        for name in names or importlib.import_module(module).__all__
    }
    for package in ("posterity.inference.convergence", "posterity.inference.mcmc", "posterity.models.mixtures"):
        module = importlib.import_module(package)
        missing = [name for name in module.__all__ if id(getattr(module, name)) not in public]
        assert missing in ([], ["reference"])


def test_listed_members_exist_and_have_docstrings() -> None:
    for module, names in documented().items():
        for name in names or ():
            assert getattr(importlib.import_module(module), name).__doc__


def test_every_public_name_has_a_docstring() -> None:
    for module, names in documented().items():
        for name in () if names else importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            assert not callable(thing) or thing.__doc__, f"{module}.{name}"
