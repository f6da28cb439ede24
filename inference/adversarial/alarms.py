"""Alarms: rules on the training curves of a game that report failed training, each with a stated threshold.

Games fail in two ways (Goodfellow 2016, arXiv:1701.00160, section 5.1; Arjovsky & Bottou 2017). Saturation: the
discriminator wins, and the generator gets no gradient. Mode collapse: the generator makes the same few samples for any
latent point. The losses alone show neither: a loss can be low in a healthy game and steady in a failed game. Both
alarms therefore use monitors of fresh and of held-out samples, and both need several readings in a row, since healthy
games have bad moments.

Warm-up and number of readings scale with the run. If a run is too short for an alarm, it ends with a warning, and
``Game.unjudged`` stores the reason. A silent alarm means healthy training only if it is not in ``Game.unjudged``. NaN
readings are ignored.

Measured with the default settings on MNIST: with a discriminator that is far too strong, both alarms ring within 200 of
500 steps. Neither rings in five healthy games of 3,000 steps, nor with the strong discriminator and the penalty R1
(``examples/gan_failing.py``).
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from posterity.inference.adversarial.losses import make_loss
from posterity.inference.adversarial.settings import Adversarial
from posterity.validation import check_integer, check_number

History = Mapping[str, list[float]]

LEAST = 2  # smallest number of readings in a row
COLLAPSE, SATURATION = 4, 3  # readings in a row, if the run is long enough
WARMUP, SHARE = 1000, 0.2  # steps, and the largest share of the run


class TrainingAlarm(UserWarning):
    """The warning that an alarm gives when it rings."""


def _never(history: History) -> None:
    return None


@dataclass(frozen=True)
class Alarm:
    """An alarm rings if ``rings(history)`` is true after a reading of the monitors; ``meaning`` is the message.

    ``unjudged(history)`` is called at the end of a run in which the alarm did not ring. It returns the reason why the
    alarm could not have rung on these readings, or None if it could. ``fitted(settings)`` returns the alarm for a run
    with these settings, if it depends on them; the trainer calls it at the start.
    """

    name: str
    rings: Callable[[History], bool]
    meaning: str
    unjudged: Callable[[History], str | None] = _never
    fitted: Callable[[Adversarial], "Alarm"] | None = None

    def over(self, settings: Adversarial) -> "Alarm":
        """This alarm for a run with these settings."""
        return self if self.fitted is None else self.fitted(settings)


def saturation(*, accuracy: float = 0.99, loss: float = 0.05, readings: int | None = None) -> Alarm:
    """The discriminator has won: the generator can no longer learn from it.

    Rings after ``readings`` in a row in which two conditions hold. The discriminator is right on a share of at least
    ``accuracy`` of the held-out real samples and of fresh generated samples (read by
    `posterity.inference.adversarial.monitors.Answers`). Its median loss since the last reading is below ``loss`` times
    the loss of a discriminator that answers 0 to all samples. Default of ``readings``: 3, or the number of readings in
    the run if smaller, but at least 2. With the Wasserstein loss the reference loss is 0, so such a run is not judged.
    Outside a run, the reference is the median of the first ten losses.

    Raises ``ValueError`` for an accuracy or a loss outside (0, 1), or fewer than one reading.
    """
    check_number("accuracy", accuracy, "(0, 1)")
    check_number("loss", loss, "(0, 1)")
    if readings is not None:
        check_integer("readings", readings, 1)
    return _saturation(accuracy, loss, readings, None, None)


def _saturation(
    accuracy: float, loss: float, readings: int | None, settings: Adversarial | None, scale: float | None
) -> Alarm:
    wanted = readings or (SATURATION if settings is None else _as_many(SATURATION, settings, 0.0))

    def whole(history: History) -> float:
        return statistics.median(_curve(history, "discriminator_loss")[:10]) if scale is None else scale

    def lost(history: History) -> list[bool]:
        """Whether both conditions hold, for each reading without NaN."""
        losses, limit = _curve(history, "discriminator_loss"), loss * whole(history)
        ends = [int(step) for step in history["read_at"]]
        answers = zip(_reading(history, "accuracy_held_out"), _reading(history, "accuracy_fake"), strict=True)
        return [
            min(pair) >= accuracy and statistics.median(losses[start:end]) < limit
            for pair, start, end in zip(answers, [0, *ends][: len(ends)], ends, strict=True)
            if not any(map(math.isnan, pair))
        ]

    def unjudged(history: History) -> str | None:
        if not whole(history) > 0:
            return f"the reference loss, of answers 0, is {whole(history):g}, and no loss is small relative to it"
        return _too_few(len(lost(history)), wanted, "")

    def fitted(over: Adversarial) -> Alarm:
        return _saturation(accuracy, loss, readings, over, _loss_of_no_idea(over))

    meaning = "the discriminator recognises all samples, so the generator cannot learn from it"
    return Alarm("saturation", lambda history: _all_last(lost(history), wanted), meaning, unjudged, fitted)


def _loss_of_no_idea(settings: Adversarial) -> float:
    none = torch.zeros(2, dtype=torch.double)
    return float(make_loss(settings.loss).discriminator(none, none))


def mode_collapse(
    *, spread: float = 0.5, largest_class: float = 0.8, readings: int | None = None, warmup: int | None = None
) -> Alarm:
    """The generator makes nearly the same sample for every latent point, or samples of nearly one class.

    Rings after ``readings`` in a row in which the distance between generated samples is at most ``spread`` times that
    between held-out samples (read by `posterity.inference.adversarial.monitors.Quality`), or in which a share of at
    least ``largest_class`` is of one class (read by `posterity.inference.adversarial.monitors.Classes`). Readings in
    the first ``warmup`` steps do not count, since a generator starts without variety. Default of ``warmup``: 1,000
    steps, or a fifth of the run if smaller. Default of ``readings``: 4, or the number after the warm-up if smaller, but
    at least 2.

    Raises ``ValueError`` for a spread or a share outside (0, 1), fewer than one reading, or a warm-up below 0.
    """
    check_number("spread", spread, "(0, 1)")
    check_number("largest_class", largest_class, "(0, 1)")
    if readings is not None:
        check_integer("readings", readings, 1)
    if warmup is not None:
        check_integer("warmup", warmup, 0)
    return _mode_collapse(spread, largest_class, readings, warmup, None)


def _mode_collapse(
    spread: float, largest_class: float, readings: int | None, warmup: int | None, settings: Adversarial | None
) -> Alarm:
    def begun(history: History) -> float:
        """The last step of the warm-up; outside a run, the history counts as the whole run."""
        steps = settings.steps if settings is not None else history["read_at"][-1] if history["read_at"] else 0
        return min(WARMUP, SHARE * steps) if warmup is None else warmup

    wanted = readings or (COLLAPSE if settings is None else _as_many(COLLAPSE, settings, begun({"read_at": []})))

    def poor(history: History) -> list[bool]:
        """Whether the samples have collapsed, for each reading after the warm-up without NaN."""
        names = [name for name in ("spread", "largest_class") if name in history] or ["spread"]
        seen = zip(*(_reading(history, name) for name in names), strict=True)
        after, found = begun(history), list[bool]()
        for step, values in zip(history["read_at"], seen, strict=True):
            read = {name: value for name, value in zip(names, values, strict=True) if not math.isnan(value)}
            if step > after and read:
                found.append(read.get("spread", math.inf) <= spread or read.get("largest_class", 0.0) >= largest_class)
        return found

    def unjudged(history: History) -> str | None:
        return _too_few(len(poor(history)), wanted, f" after step {begun(history):g}")

    def fitted(over: Adversarial) -> Alarm:
        return _mode_collapse(spread, largest_class, readings, warmup, over)

    meaning = "generated samples are nearly identical"
    return Alarm("mode_collapse", lambda history: _all_last(poor(history), wanted), meaning, unjudged, fitted)


def _as_many(usual: int, settings: Adversarial, after: float) -> int:
    """Readings in a row: the usual number, or the number of readings after this step if that is smaller."""
    steps = {*range(settings.monitor_every, settings.steps + 1, settings.monitor_every), settings.steps}
    return min(usual, max(LEAST, sum(step > after for step in steps)))


def _too_few(found: int, wanted: int, when: str) -> str | None:
    return None if found >= wanted else f"it needs {wanted} readings{when} that are not NaN, and has {found}"


def _all_last(found: list[bool], count: int) -> bool:
    return len(found) >= count and all(found[-count:])


def _curve(history: History, name: str) -> list[float]:
    if name not in history:
        raise ValueError(f"expected a monitor that reads {name!r}, for this alarm, got {sorted(history)}")
    return history[name]


def _reading(history: History, name: str) -> list[float]:
    values, steps = _curve(history, name), history["read_at"]
    if len(values) != len(steps):
        raise ValueError(f"expected {len(steps)} readings of {name!r}, one for each of read_at, got {len(values)}")
    return values
