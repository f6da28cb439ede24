"""`Adversarial`: how two networks are trained against each other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posterity.inference.adversarial.losses import Loss, make_loss
from posterity.inference.adversarial.regularisers import Penalty, Regulariser
from posterity.inference.training.schedule import cosine
from posterity.validation import check_integer, check_number

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "linear": lambda step, steps: 1 - step / steps,
    "cosine": lambda step, steps: cosine(step, steps, 0.0),
}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Adversarial:
    """How two networks are trained against each other. Pairs are (generator, discriminator).

    - ``loss``: a name of `posterity.inference.adversarial.LOSSES`, or a `Loss`; ``regularisers`` add to the
      discriminator's.
    - ``learning_rate``, ``betas``: of Adam (Kingma & Ba 2015); two rates are two time scales (Heusel et al. 2017).
      ``schedule``: "constant", "linear" or "cosine", to zero, of each.
    - ``updates``: how often each learns in a step.
    - ``noise``: sd of normal noise on what the discriminator sees, real or not, falling linearly to zero over the first
      half (Sønderby et al. 2017).
    - ``ema``: the generator's weights are averaged with this memory (Yazıcı et al. 2019), or None.
    - ``clip``: gradients of each network are scaled down to this norm, or None.
    - ``precision``: "float32" (of the data's dtype), or "bfloat16" for the operations that stand it, the weights as
      they are (Micikevicius et al. 2018).
    - ``monitor_every``: steps between two readings of the monitors, beside the last one.
    - ``best_by``: the reading whose smallest value marks the generator that ``Game.best`` gives back.
    - ``stop_on``: names of alarms that end the run (of many games: when one of them has rung in each).
    - ``checkpoint``: a file that is written every ``checkpoint_seconds``, at an interrupt and at the end.

    Raises ``ValueError`` for a setting that cannot be.
    """

    steps: int = 10_000
    batch_size: int = 64
    loss: str | Loss = "non_saturating"
    regularisers: tuple[Regulariser, ...] = ()
    learning_rate: tuple[float, float] = (2e-4, 2e-4)
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: tuple[str, str] = ("constant", "constant")
    updates: tuple[int, int] = (1, 1)
    noise: float = 0.0
    ema: float | None = None
    clip: float | None = None
    precision: str = "float32"
    monitor_every: int = 500
    best_by: str = "kernel_distance"
    stop_on: tuple[str, ...] = ()
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 60.0
    progress: bool = True

    def __post_init__(self) -> None:
        make_loss(self.loss)
        for name in ("steps", "batch_size", "monitor_every"):
            check_integer(name, getattr(self, name), 1)
        check_number("noise", self.noise, "[0, inf)")
        if self.checkpoint is not None and not isinstance(self.checkpoint, str | Path):
            raise ValueError(f"expected a checkpoint as a path, got {self.checkpoint!r}")
        if self.checkpoint is not None and not Path(self.checkpoint).parent.is_dir():
            raise ValueError(f"expected a checkpoint in a folder that is there, got {self.checkpoint}")
        check_number("checkpoint_seconds", self.checkpoint_seconds, "[0, inf)")
        if self.ema is not None:
            check_number("ema", self.ema, "(0, 1)")
        if self.clip is not None:
            check_number("clip", self.clip, "(0, inf)")
        for name in ("learning_rate", "betas", "schedule", "updates"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected a pair of {name}, of the generator and the discriminator, got {pair!r}")
        for rate, count, beta in zip(self.learning_rate, self.updates, self.betas, strict=True):
            check_number("every learning_rate", rate, "(0, inf)")
            check_integer("every number of updates", count, 1)
            check_number("every beta", beta, "[0, 1)")
        if not isinstance(self.regularisers, tuple) or not all(callable(one) for one in self.regularisers):
            raise ValueError(f"expected a tuple of regularisers, such as (r1(),), got {self.regularisers!r}")
        if not isinstance(self.stop_on, tuple) or not all(isinstance(name, str) for name in self.stop_on):
            raise ValueError(f"expected a tuple of alarms' names to stop on, got {self.stop_on!r}")
        for schedule in self.schedule:
            if not isinstance(schedule, str) or schedule not in SCHEDULES:
                raise ValueError(f"expected schedules from {sorted(SCHEDULES)}, got {schedule!r}")
        if not isinstance(self.best_by, str):
            raise ValueError(f"expected best_by as the name of a reading, got {self.best_by!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"expected precision from {list(PRECISIONS)}, got {self.precision!r}")

    @property
    def recipe(self) -> str:
        """All that a step depends on, as text: the same in every process, so that a checkpoint can carry it.

        The number of steps is part of it only where something falls towards the end of them.
        """
        names = ["batch_size", "learning_rate", "betas", "schedule", "updates", "noise", "ema", "clip", "precision"]
        if self.noise or set(self.schedule) != {"constant"}:
            names.append("steps")
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        kept["loss"] = make_loss(self.loss).name
        kept["regularisers"] = [
            repr(one) if isinstance(one, Penalty) else getattr(one, "__qualname__", type(one).__name__)
            for one in self.regularisers
        ]
        return repr(kept)

    def rates(self, step: int) -> tuple[float, float]:
        """Both learning rates in a step."""
        factors = (SCHEDULES[name](step, self.steps) for name in self.schedule)
        generator, discriminator = (rate * factor for rate, factor in zip(self.learning_rate, factors, strict=True))
        return generator, discriminator
