"""Checks of monitors and alarms, and the warnings at the end of a game."""

from collections.abc import Mapping, Sequence
from numbers import Real

from posterity.inference.adversarial.alarms import Alarm
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.training_run import PER_STEP, Game, Record
from posterity.inference.convergence import ConvergenceWarning


def check_watchers(
    monitors: Sequence[Monitor], alarms: Sequence[Alarm], settings: Adversarial
) -> tuple[tuple[Monitor, ...], tuple[Alarm, ...]]:
    """The monitors, and the alarms for a run with these settings.

    Raises ``ValueError`` for objects of another type, for two alarms with the same name, or for a name in ``stop_on``
    that no alarm has.
    """
    if not isinstance(monitors, Sequence) or not all(callable(getattr(one, "read", None)) for one in monitors):
        raise ValueError(f"expected monitors as a sequence of objects with a method read(game), got {monitors!r}")
    if not isinstance(alarms, Sequence) or not all(isinstance(one, Alarm) for one in alarms):
        raise ValueError(f"expected alarms as a sequence of Alarm, such as (saturation(),), got {alarms!r}")
    names = [alarm.name for alarm in alarms]
    if len(set(names)) < len(names):
        raise ValueError(f"expected alarms of different names, got {names}")
    if unknown := sorted(set(settings.stop_on) - set(names)):
        raise ValueError(f"expected stop_on with names of alarms {names}, got {unknown}")
    return tuple(monitors), tuple(alarm.over(settings) for alarm in alarms)


def values_of(monitor: Monitor, game: Game) -> dict[str, float]:
    """The readings of a monitor. Raises ``ValueError`` unless they map new names to numbers."""
    found, kind = monitor.read(game), type(monitor).__name__
    if not isinstance(found, Mapping):
        raise ValueError(f"expected a mapping of names to numbers from the monitor {kind}, got {found!r}")
    for name, value in found.items():
        if not isinstance(value, Real) and not (hasattr(value, "numel") and value.numel() == 1):
            raise ValueError(f"expected a number for {name!r} from the monitor {kind}, got {value!r}")
        if name in PER_STEP or name in game.reading:
            raise ValueError(f"expected a new name from the monitor {kind}, got {name!r}, which is already in use")
    return {name: float(value) for name, value in found.items()}


def conclusions(game: Game, alarms: Sequence[Alarm]) -> list[tuple[str, type[Warning]]]:
    """Warnings at the end of a run: that it was interrupted, and which alarms could not have rung."""
    found: list[tuple[str, type[Warning]]] = []
    if game.interrupted:
        found.append((_interrupted(game), RuntimeWarning))
    for record in game.records:
        record.unjudged = {alarm.name: why for alarm in alarms if (why := _unjudged(alarm, record)) is not None}
    reasons = {f"{name}: {why}" for record in game.records for name, why in record.unjudged.items()}
    if reasons:
        text = (
            f"this run of {game.step} steps was not judged by all alarms ({'; '.join(sorted(reasons))}), so it may "
            "have failed without an alarm: train for longer, or lower monitor_every"
        )
        found.append((text, ConvergenceWarning))
    return found


def _unjudged(alarm: Alarm, record: Record) -> str | None:
    if alarm.name in record.alarms:
        return None
    return alarm.unjudged(record.history) if record.history.get("read_at") else "the run has no readings"


def _interrupted(game: Game) -> str:
    settings = game.settings
    if settings.checkpoint is not None:
        further = f"to continue, call it again with resume={str(settings.checkpoint)!r}"
    elif game.many:
        further = "it cannot be continued: that needs Adversarial(checkpoint=...)"
    else:
        further = "to continue, game.save(path), then play(..., resume=path)"
    return f"interrupted: step {game.step} of {settings.steps} is kept, the training is not complete; {further}"
