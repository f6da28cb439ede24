"""Functions in processes: each runs once, and its stderr goes to its log."""

from functools import partial
from pathlib import Path

from tests.examples_run import script


def test_each_call_runs_once_with_its_stderr_in_a_log(tmp_path: Path) -> None:
    write = "import sys; sys.stderr.write('hello'); open({!r}, 'a').write('x')"
    calls = {name: partial(exec, write.format(str(tmp_path / name))) for name in ("a", "b", "c")}
    with script("_workers") as workers:
        workers.run_in_processes(calls, 2, logs=tmp_path)
    for name in calls:
        assert (tmp_path / name).read_text() == "x"
        assert (tmp_path / f"{name}.log").read_text() == "hello"
