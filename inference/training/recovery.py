"""What a run falls back on: its last good state in memory, and a checkpoint written from time to time."""

import copy
import time
from collections.abc import Callable
from typing import Generic, TypeVar

State = TypeVar("State")


class LastGood(Generic[State]):
    """The last state of a run from which it can go on, kept in memory.

    ``read`` returns the state, which is copied; ``restore`` puts it back. A step that may be interrupted half-way is
    done inside `changing`: `whole` is false from its beginning until its end.
    """

    def __init__(self, read: Callable[[], State], restore: Callable[[State], object]) -> None:
        self._read, self._restore = read, restore
        self.whole = True
        self.keep()

    def keep(self) -> None:
        """Take the present state as the good one."""
        self.state: State = copy.deepcopy(self._read())

    def restore(self) -> None:
        """Go back to the good state."""
        self._restore(self.state)
        self.whole = True

    def changing(self) -> "LastGood[State]":
        """A context for one step; an exception inside leaves `whole` false."""
        return self

    def __enter__(self) -> None:
        self.whole = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.whole = kind is None


class Every:
    """Whether ``seconds`` have passed since the start or since the last time they had."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last <= self.seconds:
            return False
        self.last = time.monotonic()
        return True
