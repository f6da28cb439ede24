"""Two networks against each other: losses, what keeps them steady, and the game itself.

- `play` with the settings `Adversarial` trains both and returns the `Game`: its samples, history and state.
- `losses`: what each minimises, by name or as a `Loss`.
- `regularisers`: `gradient_penalty`, `r1`, `r2`.
"""

from posterity.inference.adversarial.losses import LOSSES, Loss, make_loss
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from posterity.inference.adversarial.trainer import Adversarial, Game, play

__all__ = ["LOSSES", "Adversarial", "Game", "Loss", "gradient_penalty", "make_loss", "play", "r1", "r2"]
