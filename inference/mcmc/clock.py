"""The time of a run and its limit ``max_seconds``, over starts, preparation, warm-up and draws together."""

import time
from pathlib import Path

WARMUP = 0.75  # share of the time after preparation at which warm-up ends, to leave time for draws


class Clock:
    """Starts when it is made; ``earlier`` is the time of the run before a checkpoint, in seconds."""

    def __init__(self, max_seconds: float | None) -> None:
        self.begun, self.earlier, self.max_seconds = time.perf_counter(), 0.0, max_seconds
        self.prepared = 0.0

    @property
    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.begun

    @property
    def over(self) -> bool:
        return self.max_seconds is not None and self.seconds > self.max_seconds

    @property
    def warmup_over(self) -> bool:
        """Whether warm-up has used its share of the time."""
        if self.max_seconds is None:
            return False
        return self.seconds > self.prepared + WARMUP * (self.max_seconds - self.prepared)

    def after(self, stage: str) -> None:
        """End a stage that cannot be cut short. Raises ``TimeoutError`` if the time is over."""
        self.prepared = self.seconds
        if self.over:
            raise TimeoutError(
                f"max_seconds={self.max_seconds:g} was over before the first iteration: {stage} ended after "
                f"{self.prepared:.3g} s, and cannot be cut short. Raise max_seconds, or leave it out"
            )


def what_was_cut(
    max_seconds: float | None, warmup: tuple[int, int], draws: tuple[int, int], checkpoint: str | Path | None
) -> str:
    """What was cut short and how to continue; "" if nothing was. ``warmup`` and ``draws`` are (done, requested)."""
    parts = [("warm-up", warmup, "iterations"), ("the run", draws, "draws")]
    cut = [f"{what} after {made} of {wanted} {unit}" for what, (made, wanted), unit in parts if made < wanted]
    if not cut or max_seconds is None:
        return ""
    go_on = f", or continue with resume({str(checkpoint)!r}, ..., max_seconds=...)" if checkpoint else ""
    return f"max_seconds={max_seconds:.3g} ended {' and '.join(cut)}: raise max_seconds{go_on}"
