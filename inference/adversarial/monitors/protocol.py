"""What a monitor is: an object with one method."""

from collections.abc import Mapping
from typing import Protocol

from posterity.inference.adversarial.game import Game


class Monitor(Protocol):
    """Looks at a game now and then, with its own random numbers: training is the same with it as without."""

    def read(self, game: Game) -> Mapping[str, float]:
        """Named numbers, which become curves in the game's ``history``; those of previous readings are there,
        and those of monitors before it in its ``reading``."""
        ...
