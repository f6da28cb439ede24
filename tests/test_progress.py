"""Progress in a file is a few plain lines; in a terminal it is a bar of tqdm."""

import contextlib
import io
import subprocess
import sys
import types

import pytest
import torch

from posterity import progress
from posterity.inference import SVI, infer
from posterity.progress import LogBar, progress_bar


class Clock:
    """A clock that advances by ``step`` seconds at every question."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def run(monkeypatch, total: int, step: float, **settings) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "time", Clock(step))
    with progress_bar(total, "SVI", **settings) as bar:
        for i in range(bar.n, total):
            bar.update()
            bar.set_postfix_str(f"loss {i}", refresh=False)
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().endswith("\n") or not stream.getvalue()
    return stream.getvalue().splitlines()


def test_a_short_run_writes_nothing(monkeypatch):
    assert run(monkeypatch, 1000, 0.01) == []


@pytest.mark.parametrize("total", [1, 7, 100, 12345])
def test_a_long_run_writes_a_line_for_each_tenth(monkeypatch, total):
    lines = run(monkeypatch, total, 40.0)
    assert 1 <= len(lines) <= 11
    assert f"SVI: {total} of {total} (100 %)" in lines[-1]
    assert "left" not in lines[-1]
    if total == 100:
        assert lines[0] == "SVI: 10 of 100 (10 %), 80 s, about 720 s left, loss 8"
        assert [line.split()[1] for line in lines] == [str(n) for n in range(10, 101, 10)]


def test_lines_are_half_a_minute_apart(monkeypatch):
    lines = run(monkeypatch, 1000, 1 / 16)  # asked from a tenth on: 480 questions are 30 s
    assert [line.split(",")[0] for line in lines] == ["SVI: 579 of 1000 (57 %)", "SVI: 1000 of 1000 (100 %)"]


def test_a_run_that_is_hidden_writes_nothing_and_one_that_is_continued_counts_on(monkeypatch):
    assert run(monkeypatch, 100, 40.0, shown=False) == []
    lines = run(monkeypatch, 100, 40.0, initial=90)
    assert lines[0].startswith("SVI: 100 of 100 (100 %)")


def test_an_interrupted_run_says_where_it_ended(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "time", Clock(40.0))
    with contextlib.suppress(KeyboardInterrupt), progress_bar(100, "fit") as bar:
        bar.update(10)
        bar.update(5)
        raise KeyboardInterrupt
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "fit: 10 of 100 (10 %)", "fit: 15 of 100 (15 %)",
    ]  # fmt: skip


def test_values_are_shown_as_by_tqdm(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "time", Clock(40.0))
    bar = LogBar(1, "GAN")
    bar.set_postfix({"d": 0.123456}, refresh=False, loss="1.2e3")
    bar.update()
    assert stream.getvalue() == "GAN: 1 of 1 (100 %), 80 s, d=0.123, loss=1.2e3\n"


def test_without_a_console_nothing_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(progress, "time", Clock(40.0))
    with progress_bar(2, "fit") as bar:
        bar.update(2)
    assert bar.n == 2


def test_a_terminal_and_a_notebook_have_a_bar_of_tqdm(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(3, "fit", initial=1) as bar:
        bar.update()
        assert not isinstance(bar, LogBar)
        assert (bar.n, bar.total, bar.disable) == (2, 3, False)
    assert isinstance(progress_bar(3, "fit", shown=False), LogBar)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress_bar(3, "fit"), LogBar)
    kernel = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(config={"IPKernelApp": {}}))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    assert progress._in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not progress._in_notebook()


def test_a_method_in_a_pipe_writes_no_carriage_returns(capfd):
    import pyro
    import pyro.distributions as dist

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    infer(model, torch.ones(5), torch.ones(5), method=SVI(steps=50, draws=5))
    assert capfd.readouterr().err == ""


def test_the_floor_does_not_import_tqdm_before_it_is_needed():
    program = "import sys, posterity.progress; sys.exit('tqdm' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
