"""Two networks against each other: losses, what keeps them steady, and the alarms that say when it fails.

- `losses`: what each minimises, by name or as a `Loss`.
- `regularisers`: `gradient_penalty`, `r1`, `r2`.
"""

from posterity.inference.adversarial.losses import LOSSES, Loss, make_loss
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2

__all__ = ["LOSSES", "Loss", "gradient_penalty", "make_loss", "r1", "r2"]
