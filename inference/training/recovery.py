"""Recovery of a run: its last good state in memory, and the time of its next checkpoint."""

import copy
import time
from collections.abc import Callable
from typing import Generic, TypeVar

State = TypeVar("State")


class LastGood(Generic[State]):
    """A copy of the last good state of a run, in memory.

    ``read`` returns the state, which is copied; ``restore`` puts it back. A step that may be interrupted half-way runs
    inside ``with good.changing():``, and ``whole`` is False from its beginning until its end.
    """

    def __init__(self, read: Callable[[], State], restore: Callable[[State], object]) -> None:
        self._read, self._restore = read, restore
        self.whole = True
        self.keep()

    def keep(self) -> None:
        """Make the present state the good one."""
        self.state: State = copy.deepcopy(self._read())

    def restore(self) -> None:
        """Return to the good state."""
        self._restore(self.state)
        self.whole = True

    def changing(self) -> "LastGood[State]":
        """A context for one step; an exception inside leaves ``whole`` False."""
        return self

    def __enter__(self) -> None:
        self.whole = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.whole = kind is None


class Every:
    """A timer for work that is done every ``seconds`` seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether more than ``seconds`` have passed since the start, or since the last True."""
        if time.monotonic() - self.last <= self.seconds:
            return False
        self.last = time.monotonic()
        return True
