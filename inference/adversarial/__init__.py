"""Two networks against each other: losses, what keeps them steady, and the game itself.

- `play` with the settings `Adversarial` trains both and returns the `Game`: its samples, history and state.
- `losses`: what each minimises, by name or as a `Loss`.
- `regularisers`: `gradient_penalty`, `r1`, `r2`.
"""

from posterity.inference.adversarial.game import Game
from posterity.inference.adversarial.losses import LOSSES, Loss, make_loss
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.trainer import play, play_many

__all__ = ["LOSSES", "Adversarial", "Game", "Loss", "gradient_penalty", "make_loss", "play", "play_many", "r1", "r2"]
