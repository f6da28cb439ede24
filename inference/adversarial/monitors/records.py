"""Monitors that write files: `SampleGrid` for images of samples, `TensorBoard` for curves."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posterity.data.pictures import save_grid
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.validation import check_integer, shown


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """A PNG of ``n`` generated images at each reading, ``folder``/00001000.png in step 1,000; reads no numbers.

    The latent points are the same at each reading, so `posterity.data.pictures.animate` can turn the files into an
    animation. Each of several runs side by side has its own folder: ``folder``/run-0, ``folder``/run-1, ...

    Raises:
        ValueError: n or ``columns`` is below 1, or ``folder`` is not a path.
    """

    folder: str | Path
    n: int = 64
    columns: int = 8

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)
        check_integer("columns", self.columns, 1)
        if not isinstance(self.folder, str | Path):
            raise ValueError(f"expected folder to be a path, got {shown(self.folder)}")
        Path(self.folder).mkdir(parents=True, exist_ok=True)

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        condition = None if run.condition is None else run.condition[: self.n]
        images = run.samples(self.n, seed=0, condition=condition)
        folder = Path(self.folder) if run.index is None else Path(self.folder) / f"run-{run.index}"
        folder.mkdir(parents=True, exist_ok=True)
        save_grid(images, folder / f"{run.step:08d}.png", columns=self.columns)
        return {}


@dataclass(eq=False)
class TensorBoard:
    """TensorBoard event files in ``folder`` with the last value of each curve; reads no numbers.

    It writes the values of the monitors before it, so it should be the last of the monitors.

    Raises:
        ValueError: The package ``tensorboard`` is not installed.
    """

    folder: str | Path
    _writer: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(self.folder))
        except ImportError as error:
            raise ValueError(
                f"expected the package tensorboard to be installed, to write event files: {error}"
            ) from error

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        losses = {name: values[-1] for name, values in run.history.items() if name.endswith("_loss")}
        for name, value in (losses | dict(run.current_reading)).items():
            tag = name if run.index is None else f"run-{run.index}/{name}"
            self._writer.add_scalar(tag, value, run.step)
        self._writer.flush()
        return {}
