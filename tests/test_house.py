"""The architecture: which way imports point, names that are used once, a test file for each module."""

import ast
import functools
import importlib
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "models", "inference")
FLOOR = sorted((ROOT / "src" / "posterity").glob("*.py"))
FILES = sorted([*(path for room in ROOMS for path in (ROOT / room).rglob("*.py")), *FLOOR])

# From the floor upwards: a module imports from its own layer and the layers below.
LAYERS = (
    ("validation", "random", "files", "display", "progress"),
    ("data",),
    ("models",),
    ("inference.arviz", "inference.convergence", "inference.program", "inference.parallel"),
    ("inference.engine",),
    ("inference.training",),
    ("inference.export", "inference.export_sites", "inference.predictive", "inference.overview", "inference.posterior"),
    ("inference",),  # the methods: mcmc, svi, ensemble, adversarial, tracking, infer, sweep
    ("inference.diagnostics",),
    ("inference.plots", "inference.estimators"),
)

# Names that stand in two modules on purpose.
TWICE = {
    "HMC": "the sampler, and Pyro's own in mcmc.reference",
    "NUTS": "the sampler, and Pyro's own in mcmc.reference",
    "compare": "the diagnostic, and the same function of any ArviZ behind the bridge",
    "waic": "the diagnostic, and the same function of any ArviZ behind the bridge",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[0] == "src" else parts
    return ".".join(("posterity", *parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Every module of this package that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                part = f"{node.module}.{alias.name}"  # a module of the package, or a name in it
                names.add(part if part in MODULES else node.module or "")
    return frozenset(name for name in names if name.split(".")[0] == "posterity")


def layer(module: str) -> int:
    """The layer of the longest name in the table that a module's name begins with."""
    own = module.removeprefix("posterity.")
    names = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    return names[max((name for name in names if f"{own}.".startswith(f"{name}.")), key=len)]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    own = module_name(path)
    tables = {"posterity", "posterity.inference"}  # tables of contents, which import from every layer
    if own in tables:
        return
    for name in imported(path):
        assert name not in tables or name == "posterity", f"{own} imports the table of contents {name}"
        assert name == "posterity" or layer(name) <= layer(own), f"{own} imports {name}, which stands above it"


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """The nodes of one circle, if there is any."""
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for child in sorted(graph.get(name, ())):
            found = visit(child, (*trail, name))
            if found:
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, ()))), None)


def test_no_circle_of_modules() -> None:
    """A part that takes a name from the table of contents of its own package is a circle as well."""
    graph = {name: {n for n in imported(path) if n in MODULES and n != name} for name, path in MODULES.items()}
    assert circle(graph) is None


def test_no_circle_of_packages() -> None:
    """A folder without folders in it is one node. Modules beside folders are nodes themselves."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    with_folders = {name.rpartition(".")[0] for name in packages}

    def node(module: str) -> str:
        parent = module if module in packages else module.rpartition(".")[0]
        return module if parent in with_folders else parent

    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        for other in imported(path):
            inside = path.name == "__init__.py" and other.startswith(f"{name}.")
            if node(other) != node(name) and not inside:
                graph[node(name)].add(node(other))
    assert circle(graph) is None


def definitions() -> Iterator[tuple[str, str]]:
    """Public classes and functions, with their modules."""
    for module, path in MODULES.items():
        for statement in parsed(path).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef) and not statement.name.startswith("_"):
                yield statement.name, module


def test_a_name_is_used_once() -> None:
    places = defaultdict(list)
    for name, module in definitions():
        places[name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in TWICE} == {}
    assert {name for name, found in places.items() if len(found) > 1} == set(TWICE), "an exception that is none"


def test_every_module_has_a_test_file() -> None:
    """``inference/mcmc/hmc.py`` is tested in ``tests/inference/mcmc/test_hmc.py``."""
    missing = []
    for path in FILES:
        if path.name == "__init__.py":
            continue
        parts = path.relative_to(ROOT / "src" / "posterity" if path in FLOOR else ROOT).parts
        expected = Path("tests", *parts[:-1], f"test_{path.stem.removeprefix('_')}.py")
        if not (ROOT / expected).exists():
            missing.append(str(expected))
    assert missing == []


def test_every_package_is_listed_and_the_tables_are_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module_name(path) for path in FILES if path.name == "__init__.py"}
    assert set(settings["packages"]) == folders
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
    for node in ast.walk(parsed(path)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert vanishes under -O"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: bare except"


WITHOUT_TORCH = """
import importlib.util, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch")

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *others: None if name == "torch" else find_spec(name, *others)
sys.meta_path.insert(0, Missing())
import posterity, posterity.files, posterity.random, posterity.validation
import posterity.inference.convergence, posterity.inference.diagnostics, posterity.inference.plots
"""


def test_the_floor_and_the_diagnostics_do_not_import_torch() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


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
