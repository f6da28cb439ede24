"""Maximum likelihood from a simulator: every batch is new, so no row is seen twice and no row is overfitted.

`fit_stream` is for networks whose data are drawn on the fly, such as tracks in a detector. For data that are given,
use `posterity.inference.SVI`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posterity.files import read_tensors, write_tensors
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.modes import training_mode
from posterity.inference.training.record import FitRecord
from posterity.inference.training.recovery import Every, LastGood
from posterity.inference.training.schedule import cosine
from posterity.progress import progress_bar
from posterity.validation import check_integer, check_number, check_seed

FORMAT = "posterity stream 1"
READ = 50  # steps per entry of the record


def fit_stream(
    net: nn.Module,
    draw: Callable[[torch.Generator], Any],
    loss: Callable[[Any], Tensor],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    warmup: int = 100,
    clip: float = 5.0,
    seed: int,
    about: object = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> FitRecord:
    """Train ``net`` in place by minimising the mean of ``loss(draw(generator))``, and return the losses.

    The optimiser is Adam (Kingma & Ba 2015). With a ``checkpoint`` file, the run is stored every ``checkpoint_seconds``
    seconds, at an interrupt and at the end, and continues from the file if it exists. The weights are then the same bit
    by bit on the CPU, unless the network draws random numbers.

    Args:
        net: the network to train; its initial weights do not depend on ``seed``.
        draw: returns a new batch; all random numbers come from the generator that it is given.
        loss: the mean loss of a batch, of shape ().
        steps: number of steps.
        learning_rate: largest learning rate, reached after ``warmup`` steps; then it falls to zero along a cosine.
        warmup: steps in which the learning rate rises linearly.
        clip: largest norm of a gradient; longer gradients are scaled down to it.
        seed: seed of the generator.
        about: an object whose ``repr`` identifies the simulator, such as the settings of a detector. A checkpoint of
            other settings or another ``about`` is refused; the functions themselves are not compared.
        checkpoint: file to store the run in.
        checkpoint_seconds: seconds between two writes.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if a setting is out of range, no weight requires a gradient, the checkpoint is of another run, or
            the loss is not a scalar with a gradient. If the loss or its gradient is not finite, the weights of the last
            recorded loss are restored.
    """
    settings = _Settings(steps, learning_rate, warmup, clip, seed, about, checkpoint_seconds)
    run = _Run(net, draw, loss, settings, None if checkpoint is None else Path(checkpoint))
    record = run.record
    bar = progress_bar(steps, "fit", shown=progress, initial=record.steps)
    try:
        with bar, training_mode(net), torch.enable_grad():
            while record.steps < steps:
                run.step(bar)
                bar.update()
    except KeyboardInterrupt:
        record.interrupted = True
    finally:
        run.optimiser.zero_grad(set_to_none=True)
    if run.good.whole:
        run.save()
    else:
        run.good.restore()
    if record.interrupted:
        go_on = (
            "Call it again with the checkpoint to continue"
            if checkpoint is not None
            else "With checkpoint= it could continue"
        )
        warn_interrupted("fit_stream", f"the weights after {record.steps} of {steps} steps", f"{go_on}.")
    return record


@dataclass(frozen=True)
class _Settings:
    steps: int
    learning_rate: float
    warmup: int
    clip: float
    seed: int
    about: object
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1)
        check_integer("warmup", self.warmup, 0)
        check_seed(self.seed)
        check_number("learning_rate", self.learning_rate, "(0, inf)")
        check_number("clip", self.clip, "(0, inf)")
        check_number("checkpoint_seconds", self.checkpoint_seconds, "[0, inf)")

    @property
    def recipe(self) -> str:
        """The text that two runs have in common if one continues the other."""
        about = () if self.about is None else (self.about,)
        return repr((self.steps, self.learning_rate, self.warmup, self.clip, self.seed, *about))


class _Run:
    """One training: the network, its optimiser, its generator, and its checkpoint."""

    def __init__(
        self,
        net: nn.Module,
        draw: Callable[[torch.Generator], Any],
        loss: Callable[[Any], Tensor],
        settings: _Settings,
        path: Path | None,
    ) -> None:
        self.net, self.draw, self.loss, self.settings, self.path = net, draw, loss, settings, path
        self.weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
        if not self.weights:
            raise ValueError("expected a network with weights to train, got none that requires a gradient")
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.learning_rate, betas=(0.9, 0.99))
        self.random, self.record = torch.Generator().manual_seed(settings.seed), FitRecord()
        self.recent: list[float] = []  # losses since the last entry of the record
        if path is not None and path.exists():
            self._resume(path)
        self.begun, self.earlier = time.perf_counter(), self.record.seconds
        self.write_now = Every(settings.checkpoint_seconds)
        self.good = LastGood(lambda: (self.record.steps, net.state_dict()), self._restore)
        parameters = {name for name, _ in net.named_parameters()}
        self.buffers = [value for name, value in net.state_dict(keep_vars=True).items() if name not in parameters]

    def step(self, bar: Any) -> None:
        """Take one step; every `READ` steps, record the mean loss and keep the state."""
        settings, record = self.settings, self.record
        rise = min(1.0, (record.steps + 1) / settings.warmup) if settings.warmup else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rise * cosine(record.steps, settings.steps, 0.0)
        value, norm = self._gradient()
        if not bool(norm.isfinite() and value.isfinite()):
            self.net.load_state_dict(self.good.state[1])
            raise ValueError(
                f"expected a finite loss and gradient, got {float(value.detach())} and {float(norm)} in step "
                f"{record.steps + 1}: earlier weights are kept; try a lower learning_rate"
            )
        with self.good.changing():  # an interrupt in here leaves a state that no checkpoint may store
            self.optimiser.step()
            record.steps += 1
            self.recent.append(float(value.detach()))
        if record.steps % READ == 0:
            record.loss.append(sum(self.recent) / len(self.recent))
            self.recent = []
            self.good.keep()
            bar.set_postfix(loss=f"{record.loss[-1]:.4g}", refresh=False)
            if self.path is not None and self.write_now.due():
                self.save()

    def _gradient(self) -> tuple[Tensor, Tensor]:
        """The loss of a new batch and the norm of its gradient; an interrupt leaves generator and buffers unchanged."""
        random, buffers = self.random.get_state(), [buffer.clone() for buffer in self.buffers]
        try:
            value = self.loss(self.draw(self.random))
            if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"expected a loss of shape () with a gradient, got {got}")
            self.optimiser.zero_grad(set_to_none=True)
            value.backward()
            return value, nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        except KeyboardInterrupt:
            self.random.set_state(random)
            for buffer, earlier in zip(self.buffers, buffers, strict=True):
                buffer.copy_(earlier)
            raise

    def save(self) -> None:
        """Write the checkpoint, if there is one, and update the seconds of the record."""
        record = self.record
        record.seconds = self.earlier + time.perf_counter() - self.begun
        if self.path is None:
            return
        content = {
            "format": FORMAT,
            "recipe": self.settings.recipe,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.random.get_state(),
            "loss": record.loss,
            "recent": self.recent,
            "steps": record.steps,
            "seconds": record.seconds,
        }
        write_tensors(content, self.path)

    def _resume(self, path: Path) -> None:
        content, recipe = read_tensors(path, "a checkpoint of a stream"), self.settings.recipe
        if content.get("format") != FORMAT or content.get("recipe") != recipe:
            raise ValueError(
                f"expected a checkpoint of the same run in {path}, got {content.get('format')!r} with settings "
                f"{content.get('recipe')}, not {recipe}"
            )
        try:
            self.net.load_state_dict(content["net"])
        except RuntimeError as error:
            raise ValueError(f"expected a checkpoint of the same network in {path}: {error}") from error
        self.optimiser.load_state_dict(content["optimiser"])
        self.random.set_state(content["random"].cpu())
        record = self.record
        record.loss, record.steps, record.seconds = content["loss"], content["steps"], content["seconds"]
        self.recent = content["recent"]

    def _restore(self, state: tuple[int, Any]) -> None:
        self.record.steps = state[0]
        self.net.load_state_dict(state[1])
