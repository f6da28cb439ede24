"""Alarms: rules on the curves of a game that say when training has failed, each with a stated threshold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

History = Mapping[str, list[float]]


class TrainingAlarm(UserWarning):
    """What is warned when an alarm rings."""


@dataclass(frozen=True)
class Alarm:
    """``rings(history)`` is asked after every reading of the monitors; ``meaning`` is what a user is told."""

    name: str
    rings: Callable[[History], bool]
    meaning: str
