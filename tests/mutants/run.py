"""Puts faults into a copy of the program, one at a time, and runs the tests that must notice: `make mutants`.

    python tests/mutants/run.py [words] [--jobs N] [--out report.json] [--timeout S] [--again]

``words`` chooses the mutants of `mutants.toml` with one of them in their names (an area, such as "lanes:"); without,
all are run, in about half an hour on two cores. The tree itself is never changed: each job works on a copy of the
tracked files and of those that git does not ignore. First the named tests run on the program as it is, where they have
to pass. A mutant is then killed (a named test fails), survives, runs out of time, or is an error (`old` does not occur
once, or the tests cannot run).

Results are written to ``--out`` after each mutant, and one that is there already, with the same text, file and tests,
is not run again (``--again``: it is). The exit status is 0 where every mutant but the equivalent ones was killed. Not
part of the whole check: `tests/mutants/test_mutants.py` only looks at the list there.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutants.toml")
# Imported once, and nothing of the program: each run of tests is a fork of this process.
HEAVY = (
    "torch", "torch._dynamo", "torch._decomp", "torch.fx.experimental.proxy_tensor", "pyro", "pyro.infer", "pyro.nn",
    "pyro.infer.autoguide", "pyro.infer.mcmc.util", "numpy", "scipy.stats", "scipy.cluster.vq", "xarray", "arviz",
    "matplotlib.pyplot", "sklearn.linear_model", "sklearn.metrics", "joblib", "pooch", "PIL.Image", "tqdm.auto",
)  # fmt: skip
CODES = {0: "survived", 1: "killed"}


@dataclass(frozen=True)
class Mutant:
    """``new`` in the place of ``old`` in ``file``; ``tests`` are node ids under tests/, of which one has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    equivalent: str = ""

    def digest(self, tree: Path = ROOT) -> str:
        """Of all that decides about the result: the mutant, its file, and the files of its tests."""
        parts = [repr(self), (tree / self.file).read_text()]
        parts += [(tree / "tests" / test.partition("::")[0]).read_text() for test in self.tests]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def read(path: Path = LIST) -> list[Mutant]:
    """The mutants of a list."""
    entries = tomllib.loads(path.read_text())["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry.get("tests", ()))}) for entry in entries]


def copy_tree(target: Path) -> None:
    """The working tree: what git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and (source.exists() or source.is_symlink()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def _test(tree: str, tests: list[str], log: str, more: list[str]) -> None:
    """In a process of its own: pytest on a copy, what it says into a file."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.chdir(tree)
    sys.path[:0] = [tree, f"{tree}/src"]
    sys.dont_write_bytecode = True  # two versions of a file within one second have one time stamp
    import pytest

    names = [f"tests/{test}" for test in tests]
    code = pytest.main(["-q", "--tb=line", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist", *more, *names])
    sys.stdout.flush()
    os._exit(int(code))


def run_tests(tree: Path, tests: list[str], timeout: float, *more: str) -> tuple[str, list[str]]:
    """The outcome, and the lines of the tests that failed, or else the last that was said."""
    log = tree / "mutant.log"
    process = multiprocessing.get_context("fork").Process(target=_test, args=(str(tree), tests, str(log), list(more)))
    process.start()
    process.join(timeout)
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "out of time", []
    text = log.read_text(errors="replace")
    failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", text, re.MULTILINE)
    lines = [line for line in text.strip().splitlines() if line][-3:]
    return CODES.get(process.exitcode, "error"), failed or ["; ".join(lines)]


def try_mutant(mutant: Mutant, tree: Path, timeout: float) -> dict[str, Any]:
    """One mutant on a copy of the tree, which is as before afterwards."""
    found: dict[str, Any] = {"outcome": "error", "seconds": 0.0, "digest": mutant.digest(tree)}
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return {**found, "detail": f"expected the old text once in {mutant.file}, got {text.count(mutant.old)}"}
    begun = time.monotonic()
    try:
        path.write_text(text.replace(mutant.old, mutant.new))
        found["outcome"], (detail, *_) = run_tests(tree, list(mutant.tests), timeout, "-x")
        found["detail"] = detail[:300]
    finally:
        path.write_text(text)
    return {**found, "seconds": round(time.monotonic() - begun, 1)}


def write(report: dict[str, Any], path: Path) -> None:
    """Counts and results, first under a temporary name."""
    results = report["mutants"].values()
    for outcome in ("killed", "survived", "out of time", "error", "equivalent"):
        report[outcome] = sum(result["outcome"] == outcome for result in results)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(path)


def run(mutants: list[Mutant], jobs: int, out: Path, timeout: float, again: bool) -> dict[str, Any]:
    """All results; those of ``out`` are kept where nothing has changed."""
    kept = json.loads(out.read_text())["mutants"] if out.exists() and not again else {}
    report: dict[str, Any] = {"mutants": {}}
    waiting = []
    for mutant in mutants:
        old = kept.get(mutant.name, {})
        if mutant.equivalent:
            report["mutants"][mutant.name] = {"outcome": "equivalent", "detail": mutant.equivalent}
        elif old.get("digest") == mutant.digest() and old["outcome"] in CODES.values():
            report["mutants"][mutant.name] = old
        else:
            waiting.append(mutant)
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="posterity-mutants-") as folder:
        _begin(folder)
        unfit = without_faults({test for mutant in waiting for test in mutant.tests})
        for mutant in waiting:
            wrong = [line for line in unfit if any(line.startswith(f"tests/{test}") for test in mutant.tests)]
            if wrong:
                found = {"outcome": "error", "detail": f"without the fault: {wrong[0]}", "digest": mutant.digest()}
                report["mutants"][mutant.name] = found
        ready = [mutant for mutant in waiting if mutant.name not in report["mutants"]]
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _begin, (folder,)) as pool:
            for future in as_completed([pool.submit(_one, mutant, timeout) for mutant in ready]):
                mutant, result = future.result()
                report["mutants"][mutant.name] = result
                print(f"{result['outcome']:>11}  {mutant.name}  {result['detail'][:120]}", flush=True)
                write(report, out)
    write(report, out)
    return report


def without_faults(tests: set[str]) -> list[str]:
    """The lines of those that fail on the program as it is. Raises ``RuntimeError`` where they cannot be run."""
    if not tests:
        return []
    print(f"{len(tests)} tests without a fault first", flush=True)
    outcome, lines = run_tests(_tree["own"], sorted(tests), 3600.0)
    if outcome not in CODES.values():
        raise RuntimeError(f"expected tests that run, got: {lines[0]}")
    return lines if outcome == "killed" else []


_tree: dict[str, Path] = {}  # the copy that this process works on


def _begin(folder: str) -> None:
    _tree["own"] = Path(folder) / str(os.getpid())
    copy_tree(_tree["own"])


def _one(mutant: Mutant, timeout: float) -> tuple[Mutant, dict[str, Any]]:
    return mutant, try_mutant(mutant, _tree["own"], timeout)


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults that tests must notice.")
    parser.add_argument("words", nargs="*", help="parts of the names of mutants to run; all by default")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/mutants.json"))
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of one mutant")
    parser.add_argument("--again", action="store_true", help="also those whose result is there")
    given = parser.parse_args()
    chosen = [m for m in read() if not given.words or any(word in m.name for word in given.words)]
    if not chosen:
        parser.error(f"expected words of names of mutants, got {given.words}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    report = run(chosen, given.jobs, given.out, given.timeout, given.again)
    total = len(chosen) - report["equivalent"]
    print(f"{report['killed']} of {total} killed, {report['equivalent']} more are equivalent: {given.out}")
    return 0 if report["killed"] == total else 1


if __name__ == "__main__":
    sys.exit(main())
