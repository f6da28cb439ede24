"""Two networks against each other: losses, what keeps them steady, the game itself, and who watches it.

- `play` with the settings `Adversarial` trains both and returns the `Game`: its samples, history, alarms, and the best
  generator. `play_many` plays many seeds side by side.
- `play_bayesian` with `BayesianAdversarial` draws many of both from a posterior: a `BayesianGame`.
- `losses`: what each minimises, by name or as a `Loss`; `regularisers`: `gradient_penalty`, `r1`, `r2`.
- `monitors` look at fresh and held-out samples; `saturation` and `mode_collapse` are alarms on what they read.
- `metrics`: numbers for what a generator gets wrong, for any samples.
"""

from posterity.inference.adversarial import metrics, monitors
from posterity.inference.adversarial.alarms import Alarm, TrainingAlarm, mode_collapse, saturation
from posterity.inference.adversarial.bayesian import BayesianAdversarial, BayesianGame, play_bayesian
from posterity.inference.adversarial.losses import LOSSES, Loss, make_loss
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.trainer import play, play_many
from posterity.inference.adversarial.training_run import Game

__all__ = [
    "LOSSES",
    "Adversarial",
    "Alarm",
    "BayesianAdversarial",
    "BayesianGame",
    "Game",
    "Loss",
    "TrainingAlarm",
    "gradient_penalty",
    "make_loss",
    "metrics",
    "mode_collapse",
    "monitors",
    "play",
    "play_bayesian",
    "play_many",
    "r1",
    "r2",
    "saturation",
]
