"""Checks of monitors and alarms, and the warnings at the end of a run."""

from collections.abc import Mapping, Sequence
from numbers import Real

from posterity.inference.adversarial.alarms import Alarm
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.record import TrainingRecord
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.inference.convergence import ConvergenceWarning
from posterity.validation import shown


def check_monitors_and_alarms(
    monitors: Sequence[Monitor], alarms: Sequence[Alarm], settings: Adversarial
) -> tuple[tuple[Monitor, ...], tuple[Alarm, ...]]:
    """The monitors, and the alarms adapted to a run with these settings.

    Raises:
        ValueError: Objects of another type, two alarms of the same name, or a name in ``stop_on`` that no alarm has.
    """
    if not isinstance(monitors, Sequence) or not all(callable(getattr(one, "read", None)) for one in monitors):
        raise ValueError(f"expected monitors to be a sequence of objects with a method read(run), got {monitors!r}")
    if not isinstance(alarms, Sequence) or not all(isinstance(one, Alarm) for one in alarms):
        raise ValueError(f"expected alarms to be a sequence of Alarm such as (saturation(),), got {alarms!r}")
    names = [alarm.name for alarm in alarms]
    if len(set(names)) < len(names):
        raise ValueError(f"expected alarms of different names, got {names}")
    if unknown := sorted(set(settings.stop_on) - set(names)):
        raise ValueError(f"expected stop_on with names of alarms {names}, got {unknown}")
    return tuple(monitors), tuple(alarm.adapted(settings) for alarm in alarms)


def read_monitor(monitor: Monitor, run: TrainingRun) -> dict[str, float]:
    """The readings of a monitor.

    Raises:
        ValueError: The monitor returns no mapping of names to numbers, or a name that is already in use.
    """
    values, kind = monitor.read(run), type(monitor).__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"expected a mapping of names to numbers from the monitor {kind}, got {shown(values)}")
    for name, value in values.items():
        if not isinstance(value, Real) and not (hasattr(value, "numel") and value.numel() == 1):
            raise ValueError(f"expected a number for {name!r} from the monitor {kind}, got {shown(value)}")
        if name in run.records[0].losses or name in run.current_reading:
            raise ValueError(f"expected a new name from the monitor {kind}, got {name!r}, which is already in use")
    return {name: float(value) for name, value in values.items()}


def final_warnings(run: TrainingRun, alarms: Sequence[Alarm]) -> list[tuple[str, type[Warning]]]:
    """Warnings at the end of a run: that it was interrupted, and which alarms could not have rung."""
    warnings: list[tuple[str, type[Warning]]] = []
    if run.interrupted:
        warnings.append((_interrupted(run), RuntimeWarning))
    for record in run.records:
        reasons = {alarm.name: _why_inconclusive(alarm, record) for alarm in alarms}
        record.inconclusive = {name: reason for name, reason in reasons.items() if reason is not None}
    texts = {f"{name}: {reason}" for record in run.records for name, reason in record.inconclusive.items()}
    if texts:
        text = (
            f"this run of {run.step} steps was not judged by all alarms ({'; '.join(sorted(texts))}), so it may have "
            "failed without an alarm: train longer, or lower monitor_every"
        )
        warnings.append((text, ConvergenceWarning))
    return warnings


def _why_inconclusive(alarm: Alarm, record: TrainingRecord) -> str | None:
    if alarm.name in record.alarms:
        return None
    return alarm.inconclusive(record.history) if record.history.get("read_at") else "the run has no readings"


def _interrupted(run: TrainingRun) -> str:
    settings = run.settings
    if settings.checkpoint is not None:
        advice = f"to continue, call it again with resume={str(settings.checkpoint)!r}"
    elif run.stacked:
        advice = "it cannot be continued: that needs Adversarial(checkpoint=...)"
    else:
        advice = "to continue, run.save(path), then train(..., resume=path)"
    return f"interrupted: step {run.step} of {settings.steps} is kept, the training is not complete; {advice}"
