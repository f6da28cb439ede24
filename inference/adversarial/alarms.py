"""Alarms: rules that report failed training from the training curves, each with a stated threshold.

Training fails in two ways (Goodfellow 2016, arXiv:1701.00160, section 5.1; Arjovsky & Bottou 2017). Saturation: the
discriminator wins, and the generator gets no gradient. Mode collapse: the generator makes the same few samples for any
latent point. The losses alone show neither: a loss can be low in a healthy run and steady in a failed one. Both alarms
therefore use monitors of fresh and of held-out samples, and both need several readings in a row, because healthy runs
have bad moments.

The warm-up and the number of readings scale with the run. If a run is too short for an alarm, it ends with a warning,
and ``TrainingRun.inconclusive`` stores the reason. A silent alarm means healthy training only if it is not listed
there. NaN readings are ignored.

Measured with the default settings on MNIST: with a discriminator that is far too strong, both alarms ring within 200 of
500 steps. Neither rings in five healthy runs of 3,000 steps, nor with the strong discriminator and the penalty R1
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

MIN_READINGS = 2  # in a row, in the shortest run
COLLAPSE_READINGS, SATURATION_READINGS = 4, 3  # in a row, if the run is long enough
WARMUP_STEPS, WARMUP_SHARE = 1000, 0.2  # the warm-up has at most this share of the steps


class TrainingAlarm(UserWarning):
    """Warning of an alarm that rings."""


def _always_conclusive(history: History) -> None:
    return None


@dataclass(frozen=True)
class Alarm:
    """A rule that is applied to the training curves after each reading of the monitors.

    Attributes:
        name: Name of the alarm in ``TrainingRun.alarms`` and ``Adversarial.stop_on``.
        rings: Function of the history: True if training has failed.
        meaning: Text of the warning.
        inconclusive: Function of the history at the end of a run in which the alarm did not ring: the reason why it
            could not have rung on these readings, or None if it could.
        adapt: Function of the settings: this alarm for a run with these settings. None if the alarm does not depend on
            them.
    """

    name: str
    rings: Callable[[History], bool]
    meaning: str
    inconclusive: Callable[[History], str | None] = _always_conclusive
    adapt: Callable[[Adversarial], "Alarm"] | None = None

    def adapted(self, settings: Adversarial) -> "Alarm":
        """This alarm for a run with these settings."""
        return self if self.adapt is None else self.adapt(settings)


def saturation(*, accuracy: float = 0.99, loss: float = 0.05, readings: int | None = None) -> Alarm:
    """Alarm for a discriminator that has won, so that the generator cannot learn from it.

    Rings after ``readings`` in a row in which two conditions hold. First, the discriminator is right on a share of at
    least ``accuracy`` of the held-out real samples and of fresh generated samples (read by
    `posterity.inference.adversarial.monitors.DiscriminatorAccuracy`). Second, its median loss since the last reading is
    below ``loss`` times a reference loss: that of logits at the threshold between real and generated samples. With the
    Wasserstein loss this reference is 0, so the alarm is inconclusive. Outside a run, the reference is the median of
    the first ten losses.

    By default ``readings`` is 3, or the number of readings in the run if that is smaller, but at least 2.

    Raises:
        ValueError: ``accuracy`` or ``loss`` outside (0, 1), or ``readings`` below 1.
    """
    check_number("accuracy", accuracy, "(0, 1)")
    check_number("loss", loss, "(0, 1)")
    if readings is not None:
        check_integer("readings", readings, 1)
    return _saturation(accuracy, loss, readings, None)


def _saturation(accuracy: float, loss: float, readings: int | None, settings: Adversarial | None) -> Alarm:
    needed = readings or (SATURATION_READINGS if settings is None else _limit(SATURATION_READINGS, settings, 0.0))
    uninformed = None if settings is None else _uninformed_loss(settings)

    def reference(history: History) -> float:
        if uninformed is not None:
            return uninformed
        return statistics.median(_curve(history, "discriminator_loss")[:10])

    def failures(history: History) -> list[bool]:
        """Whether both conditions hold, for each reading without NaN."""
        losses, limit = _curve(history, "discriminator_loss"), loss * reference(history)
        ends = [int(step) for step in history["read_at"]]
        accuracies = zip(_reading(history, "accuracy_held_out"), _reading(history, "accuracy_fake"), strict=True)
        return [
            min(pair) >= accuracy and statistics.median(losses[start:end]) < limit
            for pair, start, end in zip(accuracies, [0, *ends][: len(ends)], ends, strict=True)
            if not any(map(math.isnan, pair))
        ]

    def inconclusive(history: History) -> str | None:
        if not reference(history) > 0:
            return f"the reference loss is {reference(history):g}, and no loss is small relative to it"
        return _too_few(len(failures(history)), needed, "")

    return Alarm(
        "saturation",
        lambda history: _in_a_row(failures(history), needed),
        "the discriminator recognises all samples, so the generator cannot learn from it",
        inconclusive,
        lambda of: _saturation(accuracy, loss, readings, of),
    )


def _uninformed_loss(settings: Adversarial) -> float:
    """The discriminator's loss if all its logits are at the threshold."""
    loss = make_loss(settings.loss)
    logits = torch.full((2,), loss.threshold, dtype=torch.double)
    return float(loss.discriminator(logits, logits))


def mode_collapse(
    *, spread: float = 0.5, largest_class: float = 0.8, readings: int | None = None, warmup: int | None = None
) -> Alarm:
    """Alarm for a generator that makes nearly the same sample for every latent point, or samples of nearly one class.

    Rings after ``readings`` in a row in which the mean distance between generated samples is at most ``spread`` times
    that between held-out samples (read by `posterity.inference.adversarial.monitors.SampleQuality`), or in which a
    share of at least ``largest_class`` belongs to one class (read by
    `posterity.inference.adversarial.monitors.ClassCoverage`). Readings in the first ``warmup`` steps do not count,
    because a generator starts without variety.

    By default ``warmup`` is 1,000 steps, or a fifth of the run if that is smaller; ``readings`` is 4, or the number of
    readings after the warm-up if that is smaller, but at least 2.

    Raises:
        ValueError: ``spread`` or ``largest_class`` outside (0, 1), ``readings`` below 1, or ``warmup`` below 0.
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
    def warmup_end(history: History) -> float:
        """The last step of the warm-up; outside a run, the history counts as the whole run."""
        steps = settings.steps if settings is not None else history["read_at"][-1] if history["read_at"] else 0
        return min(WARMUP_STEPS, WARMUP_SHARE * steps) if warmup is None else warmup

    if readings:
        needed = readings
    elif settings is None:
        needed = COLLAPSE_READINGS
    else:
        needed = _limit(COLLAPSE_READINGS, settings, warmup_end({"read_at": []}))

    def failures(history: History) -> list[bool]:
        """Whether the samples have collapsed, for each reading after the warm-up that is not NaN."""
        names = [name for name in ("spread", "largest_class") if name in history] or ["spread"]
        rows = zip(*(_reading(history, name) for name in names), strict=True)
        collapsed = list[bool]()
        for step, row in zip(history["read_at"], rows, strict=True):
            values = {name: value for name, value in zip(names, row, strict=True) if not math.isnan(value)}
            if step > warmup_end(history) and values:
                collapsed.append(
                    values.get("spread", math.inf) <= spread or values.get("largest_class", 0.0) >= largest_class
                )
        return collapsed

    return Alarm(
        "mode_collapse",
        lambda history: _in_a_row(failures(history), needed),
        "generated samples are nearly identical",
        lambda history: _too_few(len(failures(history)), needed, f" after step {warmup_end(history):g}"),
        lambda of: _mode_collapse(spread, largest_class, readings, warmup, of),
    )


def _limit(usual: int, settings: Adversarial, after: float) -> int:
    """Readings in a row: the usual number, or the number of readings after this step if that is smaller."""
    steps = {*range(settings.monitor_every, settings.steps + 1, settings.monitor_every), settings.steps}
    return min(usual, max(MIN_READINGS, sum(step > after for step in steps)))


def _too_few(count: int, needed: int, when: str) -> str | None:
    return None if count >= needed else f"it needs {needed} readings{when} that are not NaN, and has {count}"


def _in_a_row(failures: list[bool], count: int) -> bool:
    """Whether the last ``count`` readings all failed."""
    return len(failures) >= count and all(failures[-count:])


def _curve(history: History, name: str) -> list[float]:
    if name not in history:
        raise ValueError(f"expected a monitor that reads {name!r}, for this alarm, got {sorted(history)}")
    return history[name]


def _reading(history: History, name: str) -> list[float]:
    values, steps = _curve(history, name), history["read_at"]
    if len(values) != len(steps):
        raise ValueError(f"expected {len(steps)} readings of {name!r}, one for each of read_at, got {len(values)}")
    return values
