"""Alarms: rules on the curves of a game that say when training has failed, each with a stated threshold.

The two ways in which games end (Goodfellow 2016, arXiv:1701.00160, section 5.1; Arjovsky & Bottou 2017): the
discriminator wins outright and the generator has nothing to learn from, or the generator makes the same few samples
whatever the latent point. Neither shows in the losses alone: a loss can be low in a healthy game, and steady in a dead
one. Both therefore ask monitors that look at fresh and at held-out samples, and both ask for several readings in a row,
since healthy games have bad moments.

By these thresholds, with a warm-up of a fifth of the steps: on MNIST, with a discriminator that is far too strong, both
ring within 200 of 500 steps, and neither in five healthy games of 3,000 steps nor once the strong one has the penalty
R1 (``examples/gan_failing.py``).
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posterity.inference.check import number

History = Mapping[str, list[float]]


class TrainingAlarm(UserWarning):
    """What is warned when an alarm rings."""


@dataclass(frozen=True)
class Alarm:
    """``rings(history)`` is asked after every reading of the monitors; ``meaning`` is what a user is told."""

    name: str
    rings: Callable[[History], bool]
    meaning: str


def saturation(*, accuracy: float = 0.99, loss: float = 0.05, readings: int = 3) -> Alarm:
    """The discriminator has won: the generator cannot learn from it any more.

    Rings after ``readings`` in a row in which it is right about a share of ``accuracy`` of the held-out real samples
    and of the fresh generated ones (read by `posterity.inference.adversarial.monitors.Answers`), while its median loss
    since the reading before is below ``loss`` times that of the first ten steps. Not for the Wasserstein loss, which
    has no such scale. Raises ``ValueError`` for an accuracy or a loss outside (0, 1), or fewer than one reading.
    """
    number("accuracy", accuracy, low=0, high=1)
    number("loss", loss, low=0, high=1)
    number("readings", readings, low=1, integer=True)

    def rings(history: History) -> bool:
        right = zip(_curve(history, "accuracy_held_out"), _curve(history, "accuracy_fake"), strict=True)
        losses = _curve(history, "discriminator_loss")
        limit = loss * statistics.median(losses[:10])
        ends = [int(step) for step in history["read_at"]]
        lost = [
            min(answers) >= accuracy and statistics.median(losses[start:end]) < limit
            for answers, start, end in zip(right, [0, *ends], ends, strict=False)
        ]
        return _all_last(lost, readings)

    return Alarm("saturation", rings, "the discriminator knows all samples, the generator learns nothing from it")


def mode_collapse(*, spread: float = 0.5, largest_class: float = 0.8, readings: int = 4, warmup: int = 1000) -> Alarm:
    """The generator makes nearly the same sample from every latent point, or samples of nearly one class.

    Rings after ``readings`` in a row in which generated samples are ``spread`` times as far from each other as held-out
    ones or less (read by `posterity.inference.adversarial.monitors.Quality`), or in which a share of ``largest_class``
    or more is of one class (read by `posterity.inference.adversarial.monitors.Classes`); readings in the first
    ``warmup`` steps do not count, since a generator begins with no variety. Raises ``ValueError`` for a spread or a
    share outside (0, 1), fewer than one reading, or a warm-up below 0.
    """
    number("spread", spread, low=0, high=1)
    number("largest_class", largest_class, low=0, high=1)
    number("readings", readings, low=1, integer=True)
    number("warmup", warmup, low=0, integer=True)

    def rings(history: History) -> bool:
        steps = history["read_at"]
        if "spread" not in history and "largest_class" not in history:
            _curve(history, "spread")  # raises
        narrow = [value <= spread for value in history.get("spread", [])] or [False] * len(steps)
        single = [value >= largest_class for value in history.get("largest_class", [])] or [False] * len(steps)
        poor = [step > warmup and (a or b) for step, a, b in zip(steps, narrow, single, strict=True)]
        return _all_last(poor, readings)

    return Alarm("mode_collapse", rings, "generated samples are nearly all alike")


def _all_last(found: list[bool], count: int) -> bool:
    return len(found) >= count and all(found[-count:])


def _curve(history: History, name: str) -> list[float]:
    if name not in history:
        raise ValueError(f"expected a monitor that reads {name!r}, for this alarm, got {sorted(history)}")
    return history[name]
