"""Adversarial training (GANs): a generator and a discriminator, trained against each other or drawn from a posterior.

- `train` with the settings `Adversarial` trains both networks and returns a `TrainingRun`: samples, history, alarms,
  and the best generator. `train_many` trains many seeds side by side.
- `train_bayesian` with `BayesianAdversarial` draws many generators from a posterior: a `BayesianRun`.
- `batches`: data that draw the inputs of the generator, too. `terms`: further terms of its loss.
- `losses`: seven losses by name, or your own `Loss`. `regularisers`: `gradient_penalty`, `r1`, `r2`.
- `monitors` read fresh and held-out samples at intervals; `saturation` and `mode_collapse` are alarms on their
  readings.
- `metrics` compare generated with real samples, whichever model they come from.
"""

from posterity.inference.adversarial import metrics, monitors, terms
from posterity.inference.adversarial.alarms import Alarm, TrainingAlarm, mode_collapse, saturation
from posterity.inference.adversarial.bayesian import BayesianAdversarial, BayesianRun, train_bayesian
from posterity.inference.adversarial.losses import LOSSES, Loss, make_loss
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from posterity.inference.adversarial.sampling import draw_samples, generate
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.trainer import train, train_many
from posterity.inference.adversarial.training_run import TrainingRun

__all__ = [
    "LOSSES",
    "Adversarial",
    "Alarm",
    "BayesianAdversarial",
    "BayesianRun",
    "Loss",
    "TrainingAlarm",
    "TrainingRun",
    "draw_samples",
    "generate",
    "gradient_penalty",
    "make_loss",
    "metrics",
    "mode_collapse",
    "monitors",
    "r1",
    "r2",
    "saturation",
    "terms",
    "train",
    "train_bayesian",
    "train_many",
]
