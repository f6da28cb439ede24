"""Progress of a long run: a bar in a terminal or a notebook, a few plain lines in a file.

The bars of tqdm rewrite their line, which fills a log with copies of it. Where standard error is not a terminal, a run
writes one line for each tenth, at least half a minute apart: short runs write none, long runs eleven at most. Importing
this module does not import torch.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Self

SECONDS = 30.0
"""Shortest time between two lines of a log."""

SHARE = 0.1
"""Smallest part of the run between two lines of a log."""


def progress_bar(total: int, name: str, *, shown: bool = True, initial: int = 0) -> Any:
    """A bar of tqdm, or a `LogBar` with the same methods where standard error is neither terminal nor notebook.

    ``initial`` steps were made before, in a run that is continued. With ``shown=False`` nothing is written.
    """
    if not shown or not (_in_notebook() or _is_terminal(sys.stderr)):
        return LogBar(total, name, disable=not shown, initial=initial)
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=name, initial=initial, leave=False)


class LogBar:
    """Lines such as ``SVI: 300 of 3000 (10 %), 41 s, about 369 s left, loss 12.3`` on standard error."""

    def __init__(self, total: int, name: str, *, disable: bool = False, initial: int = 0) -> None:
        self.total, self.name, self.disable, self.n = total, name, disable, initial
        self._initial, self._written, self._start = initial, initial, time.monotonic()
        self._last, self._lines, self._text = self._start, 0, ""

    def update(self, n: int = 1) -> None:
        """Count ``n`` more steps."""
        self.n += n
        if self.disable or self.n - self._written < SHARE * self.total:
            return
        if time.monotonic() - self._last >= SECONDS:
            self._write()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """The text at the end of the next line."""
        self._text = text

    def set_postfix(self, values: Mapping[str, Any] | None = None, refresh: bool = True, **named: Any) -> None:
        """Names and values at the end of the next line."""
        given = {**(values or {}), **named}
        shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in given.items()}
        self._text = ", ".join(f"{name}={value}" for name, value in shown.items())

    def close(self) -> None:
        """Write the last line, if there were others."""
        if self._lines and self.n > self._written:
            self._write()
        self.disable = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _write(self) -> None:
        self._last, self._written, self._lines = time.monotonic(), self.n, self._lines + 1
        seconds, made = self._last - self._start, self.n - self._initial
        left = f"about {seconds * (self.total - self.n) / made:.0f} s left" if self.n < self.total else ""
        share = f"{self.n} of {self.total} ({100 * self.n // max(1, self.total)} %)"
        parts = [f"{self.name}: {share}", f"{seconds:.0f} s", left, self._text]
        if sys.stderr is not None:  # as in a program without a console
            sys.stderr.write(", ".join(part for part in parts if part) + "\n")
            sys.stderr.flush()


def _is_terminal(stream: Any) -> bool:
    return stream is not None and hasattr(stream, "isatty") and bool(stream.isatty())


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this code; tqdm asks the same question."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
