"""What is kept of training for people to look at: pictures of the same latent points, event files for TensorBoard."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posterity.data.pictures import save_grid
from posterity.inference.adversarial.training_run import Game
from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class Pictures:
    """A PNG of ``n`` generated images in every reading, of the same latent points, as ``folder``/00001000.png.

    `posterity.data.pictures.animate` makes one moving picture of them. Of many games each has a folder of its own,
    ``folder``/game-0, .... Reads nothing.
    """

    folder: str | Path
    n: int = 64
    columns: int = 8

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)
        check_integer("columns", self.columns, 1)
        if not isinstance(self.folder, str | Path):
            raise ValueError(f"expected folder as a path, got {self.folder!r}")
        Path(self.folder).mkdir(parents=True, exist_ok=True)

    def read(self, game: Game) -> Mapping[str, float]:
        condition = None if game.condition is None else game.condition[: self.n]
        images = game.samples(self.n, seed=0, condition=condition)
        folder = Path(self.folder) if game.seat is None else Path(self.folder) / f"game-{game.seat}"
        folder.mkdir(parents=True, exist_ok=True)
        save_grid(images, folder / f"{game.step:08d}.png", columns=self.columns)
        return {}


@dataclass(eq=False)
class TensorBoard:
    """The last values of all curves as TensorBoard event files in ``folder``; last among the monitors, to see theirs.

    Raises ``ValueError`` where the package ``tensorboard`` is not installed.
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

    def read(self, game: Game) -> Mapping[str, float]:
        losses = {name: values[-1] for name, values in game.history.items() if name.endswith("_loss")}
        for name, value in (losses | dict(game.reading)).items():
            tag = name if game.seat is None else f"game-{game.seat}/{name}"
            self._writer.add_scalar(tag, value, game.step)
        self._writer.flush()
        return {}
