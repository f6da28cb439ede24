"""The house itself: which way imports point, and whether the package holds what it says."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "models", "inference")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module of this package that a file imports, wherever in the file."""
    names: set[str] = set()
    modules = {module_name(path) for path in FILES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                part = f"{node.module}.{alias.name}"  # a module of the package, or a name in it
                names.add(part if part in modules else node.module or "")
    return {name for name in names if name.split(".")[0] == "posterity"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("posterity", *parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    room = ROOMS.index(path.relative_to(ROOT).parts[0])
    for name in imported(path):
        parts = name.split(".")
        if len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= room, f"{module_name(path)} imports {name}"
    if "plots" not in path.parts:
        assert not any(".plots" in name for name in imported(path)), "plots are leaves"


def test_no_import_circle() -> None:
    known = {module_name(path) for path in FILES}
    # A table of contents imports its parts, so a part that takes a name from the contents of its own package is a
    # circle as well.
    graph = {module_name(path): {n for n in imported(path) if n in known and n != module_name(path)} for path in FILES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for child in graph[name]:
            visit(child, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_every_package_is_listed_and_the_tables_are_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module_name(path) for path in FILES if path.name == "__init__.py"}
    assert set(settings["packages"]) == folders | {"posterity"}
    assert {path.name for path in (ROOT / "data" / "bundled-tables").glob("*.csv")} == {"mcycle.csv", "geyser.csv"}


@pytest.mark.parametrize("name", ["data", "models", "inference", "inference.diagnostics", "inference.plots"])
def test_public_names_exist_and_explain_themselves(name: str) -> None:
    module = importlib.import_module(f"posterity.{name}")
    assert module.__doc__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for public in module.__all__:
        assert getattr(module, public).__doc__, f"posterity.{name}.{public} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_library_code_neither_asserts_nor_prints_nor_catches_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert vanishes under -O"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: bare except"


LATER = """
import time

_now = time.time
time.time = lambda: _now() + 1_000_000
"""


@pytest.mark.slow
def test_two_processes_collect_the_same_tests(tmp_path: Path) -> None:
    """With other hash seeds and clocks: processes that share the tests must agree on their names."""
    (tmp_path / "later.py").write_text(LATER)
    found = []
    for seed, plugin in (("0", []), ("1", ["-p", "later"])):
        paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *plugin, "tests"]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        found.append([line for line in run.stdout.splitlines() if "::" in line])
    assert len(found[0]) > 4000
    assert found[0] == found[1]
