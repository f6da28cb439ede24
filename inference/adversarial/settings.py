"""`Adversarial`: settings of adversarial training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posterity.inference.adversarial.losses import Loss, make_loss
from posterity.inference.adversarial.regularisers import Penalty, Regulariser
from posterity.inference.adversarial.terms import Term, check_terms
from posterity.inference.training.schedule import cosine
from posterity.validation import check_choice, check_integer, check_number, shown

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "linear": lambda step, steps: 1 - step / steps,
    "late_linear": lambda step, steps: min(1.0, 2 * (1 - step / steps)),
    "cosine": lambda step, steps: cosine(step, steps, 0.0),
}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Adversarial:
    """Settings of adversarial training. Pairs are (generator, discriminator).

    Attributes:
        steps: Number of training steps.
        batch_size: Samples of each kind in a batch.
        loss: A name in `posterity.inference.adversarial.LOSSES`, or a `Loss`.
        regularisers: Penalties that are added to the discriminator's loss.
        terms: Terms that are added to the generator's loss (`posterity.inference.adversarial.terms`).
        learning_rate: Learning rates of Adam (Kingma & Ba 2015); two different ones are the two time scales of Heusel
            et al. 2017.
        betas: The two decay rates of Adam, the same for both networks.
        schedule: "constant", or to zero: "linear", "cosine", or "late_linear", which begins in the middle of the run.
        updates: Updates of each network in a step.
        replay: Number of earlier generated samples that are kept; the discriminator sees one of them, with probability
            one half, in place of each new sample (Shrivastava et al. 2017, section 2.3). Not for conditional runs.
        noise: Standard deviation of normal noise that is added to all samples the discriminator sees. It falls linearly
            to zero over the first half of the steps (Sønderby et al. 2017).
        ema: Decay of the exponential moving average of the generator's weights (Yazıcı et al. 2019), or None.
        clip: Largest norm of the gradient of each network, or None.
        precision: "float32" for the dtype of the data, or "bfloat16" for mixed precision with weights of the dtype of
            the data (Micikevicius et al. 2018).
        monitor_every: Steps between two readings of the monitors; the last step has a reading too.
        best_by: The reading whose smallest value selects the generator that `TrainingRun.best_generator` returns.
        stop_on: Names of alarms that end the run. Runs side by side end when such an alarm has rung in each.
        checkpoint: File that the run is written to every ``checkpoint_seconds``, after an interrupt, and at the end.
        checkpoint_seconds: Seconds between two checkpoints.
        progress: Whether a progress bar is shown.

    Raises:
        ValueError: A setting of another type or outside its range.
    """

    steps: int = 10_000
    batch_size: int = 64
    loss: str | Loss = "non_saturating"
    regularisers: tuple[Regulariser, ...] = ()
    terms: tuple[Term, ...] = ()
    learning_rate: tuple[float, float] = (2e-4, 2e-4)
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: tuple[str, str] = ("constant", "constant")
    updates: tuple[int, int] = (1, 1)
    replay: int = 0
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
        check_integer("replay", self.replay, 0)
        check_terms(self.terms)
        check_number("noise", self.noise, "[0, inf)")
        check_number("checkpoint_seconds", self.checkpoint_seconds, "[0, inf)")
        if self.ema is not None:
            check_number("ema", self.ema, "(0, 1)")
        if self.clip is not None:
            check_number("clip", self.clip, "(0, inf)")
        check_choice("precision", self.precision, PRECISIONS)
        self._check_pairs()
        self._check_names()

    def _check_pairs(self) -> None:
        for name in ("learning_rate", "betas", "schedule", "updates"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected {name} to be a pair (generator, discriminator), got {shown(pair)}")
        for rate, updates, beta, schedule in zip(
            self.learning_rate, self.updates, self.betas, self.schedule, strict=True
        ):
            check_number("every learning_rate", rate, "(0, inf)")
            check_integer("every number of updates", updates, 1)
            check_number("every beta", beta, "[0, 1)")
            check_choice("every schedule", schedule, list(SCHEDULES))

    def _check_names(self) -> None:
        if not isinstance(self.regularisers, tuple) or not all(callable(one) for one in self.regularisers):
            raise ValueError(
                f"expected regularisers to be a tuple of functions such as (r1(),), got {shown(self.regularisers)}"
            )
        if not isinstance(self.stop_on, tuple) or not all(isinstance(name, str) for name in self.stop_on):
            raise ValueError(f"expected stop_on to be a tuple of names of alarms, got {shown(self.stop_on)}")
        if not isinstance(self.best_by, str):
            raise ValueError(f"expected best_by to be the name of a reading, got {shown(self.best_by)}")
        if self.checkpoint is not None and not isinstance(self.checkpoint, str | Path):
            raise ValueError(f"expected checkpoint to be a path, got {shown(self.checkpoint)}")
        if self.checkpoint is not None and not Path(self.checkpoint).parent.is_dir():
            raise ValueError(f"expected checkpoint to be in an existing folder, got {self.checkpoint}")

    @property
    def recipe(self) -> str:
        """Everything that a step depends on, as text that is the same in every process; a checkpoint stores it.

        The number of steps is included only if something falls to zero towards the last of them.
        """
        names = ["batch_size", "learning_rate", "betas", "schedule", "updates", "noise", "ema", "clip", "precision"]
        names += [name for name in ("terms", "replay") if getattr(self, name)]
        if self.noise or set(self.schedule) != {"constant"}:
            names.append("steps")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        values["loss"] = make_loss(self.loss).name
        values["regularisers"] = [
            repr(one) if isinstance(one, Penalty) else getattr(one, "__qualname__", type(one).__name__)
            for one in self.regularisers
        ]
        return repr(values)

    def rates(self, step: int) -> tuple[float, float]:
        """The learning rates of both networks in a step."""
        factors = (SCHEDULES[name](step, self.steps) for name in self.schedule)
        generator, discriminator = (rate * factor for rate, factor in zip(self.learning_rate, factors, strict=True))
        return generator, discriminator
