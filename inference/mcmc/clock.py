"""The time of a run and its limit ``max_seconds``, which covers starts, preparation, warm-up and draws."""

import math
import time
from pathlib import Path

MOST_IN_A_CALL = 1024
WARMUP_SHARE = 0.75  # warm-up ends after this share of the time after preparation, to leave time for draws


class Clock:
    """A clock that starts when it is created. ``earlier`` is the time before a checkpoint, in seconds."""

    def __init__(self, max_seconds: float | None) -> None:
        self.begun, self.earlier, self.max_seconds = time.perf_counter(), 0.0, max_seconds
        self.prepared = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, with those before a checkpoint."""
        return self.earlier + time.perf_counter() - self.begun

    @property
    def over(self) -> bool:
        """Whether the time limit has passed."""
        return self.max_seconds is not None and self.seconds > self.max_seconds

    @property
    def warmup_over(self) -> bool:
        """Whether warm-up has used its share of the time."""
        if self.max_seconds is None:
            return False
        return self.seconds > self.prepared + WARMUP_SHARE * (self.max_seconds - self.prepared)

    def end_stage(self, stage: str) -> None:
        """End a stage that cannot be cut short; ``TimeoutError`` if the time limit has passed."""
        self.prepared = self.seconds
        if self.over:
            raise TimeoutError(
                f"max_seconds={self.max_seconds:g} was over before the first iteration: {stage} ended after "
                f"{self.prepared:.3g} s, and cannot be cut short. Raise max_seconds, or leave it out"
            )


class Pace:
    """The number of transitions in a call that takes about ``seconds``: one at first, then at most doubled."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.made, self.begun = seconds, 0, 0.0

    def count(self, most: int) -> int:
        """The number for the next call, at most ``most``; called before each."""
        now = time.perf_counter()
        each = (now - self.begun) / self.made if self.made else math.inf
        wanted = min(2 * self.made, MOST_IN_A_CALL, int(self.seconds / max(each, 1e-9)))
        self.made, self.begun = max(1, min(most, wanted)), now
        return self.made


def describe_cuts(
    max_seconds: float | None, warmup: tuple[int, int], draws: tuple[int, int], checkpoint: str | Path | None
) -> str:
    """The parts of a run that the time limit cut short, and how to continue, in words; "" if there are none.

    ``warmup`` and ``draws`` are pairs (done, requested).
    """
    parts = [("warm-up", warmup, "iterations"), ("the run", draws, "draws")]
    cuts = [f"{part} after {done} of {requested} {unit}" for part, (done, requested), unit in parts if done < requested]
    if not cuts or max_seconds is None:
        return ""
    resuming = f", or continue with resume({str(checkpoint)!r}, ..., max_seconds=...)" if checkpoint else ""
    return f"max_seconds={max_seconds:.3g} ended {' and '.join(cuts)}: raise max_seconds{resuming}"
