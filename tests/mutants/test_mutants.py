"""The list of mutants fits the program: every old text is there once, every test is there, every new text compiles.

The mutants themselves are run by `make mutants`.
"""

import ast
from collections import Counter

from tests.mutants.run import ROOT, read

MUTANTS = read()
AREAS = (
    "samplers", "engine", "lanes", "mixtures", "diagnostics", "tracking", "adversarial", "exact", "training",
    "pictures", "simulation", "completion",
)  # fmt: skip


def test_there_are_many_and_each_has_a_name_of_its_own():
    names = Counter(mutant.name for mutant in MUTANTS)
    assert max(names.values()) == 1
    assert set(AREAS) == {name.partition(":")[0] for name in names}
    assert sum(not mutant.equivalent for mutant in MUTANTS) >= 60


def misfits(mutant):
    """What is wrong with one entry of the list."""
    text = (ROOT / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        yield f"{mutant.file} has the old text {text.count(mutant.old)} times"
    if mutant.new == mutant.old:
        yield "nothing is changed"
    if mutant.file.endswith(".py"):
        try:
            ast.parse(text.replace(mutant.old, mutant.new))
        except SyntaxError as error:
            yield f"the new text does not compile: {error}"
    if bool(mutant.tests) == bool(mutant.equivalent):
        yield "expected tests, or why it is equivalent"
    for test in mutant.tests:
        file, _, function = test.partition("::")
        path = ROOT / "tests" / file
        if not path.exists() or (function and f"def {function.partition('[')[0]}(" not in path.read_text()):
            yield f"no test {test}"


def test_every_mutant_fits_the_program():
    """Where a change of the program makes one obsolete, its entry in `mutants.toml` is to be changed or left out."""
    assert [f"{mutant.name}: {fault}" for mutant in MUTANTS for fault in misfits(mutant)] == []
