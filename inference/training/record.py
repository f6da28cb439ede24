"""The record that a training by gradients returns."""

from dataclasses import dataclass, field


@dataclass
class TrainingRecord:
    """Mean losses in the order of steps, the number of ``steps``, and the ``seconds`` of all runs together.

    Each entry of ``loss`` is the mean over an epoch (`fit_classifier`) or over 50 steps (`fit_stream`).
    """

    loss: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
