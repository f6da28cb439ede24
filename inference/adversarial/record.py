"""`TrainingRecord`: the training curves of one run, its alarms, and its best generator so far."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

RUN_READINGS = ("read_at", "generator_gradient", "discriminator_gradient", "gradient_ratio")  # without any monitor
LOSS_CURVES = ("discriminator_loss", "generator_loss")  # the terms of the settings have such curves, too


@dataclass
class TrainingRecord:
    """The training curves of one run, its alarms, and its best generator so far.

    Attributes:
        history: Curves by name, with one value for each step (losses) or for each reading (monitors).
        losses: Names of the curves with one value for each step.
        alarms: The step in which each alarm rang, by name.
        inconclusive: For each alarm that could not have rung in this run, the reason.
        best_step: The step with the smallest reading of ``Adversarial.best_by``, or None.
        best_value: That reading.
        best_weights: The weights of the generator in that step, or None.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    losses: tuple[str, ...] = LOSS_CURVES
    alarms: dict[str, int] = field(default_factory=dict)
    inconclusive: dict[str, str] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float = float("inf")
    best_weights: dict[str, Tensor] | None = None

    def append_losses(self, losses: Mapping[str, float]) -> None:
        """Append one value to each loss curve."""
        for name, value in losses.items():
            self.history.setdefault(name, []).append(float(value))

    def append_reading(self, values: Mapping[str, float]) -> None:
        """Append one value to each curve of readings; NaN where the monitors of this run do not read a curve."""
        earlier = len(self.history.get("read_at", []))
        for name in dict.fromkeys([*self.history, *values]):
            if name not in self.losses:
                curve = self.history.setdefault(name, [])
                curve[:0] = [math.nan] * (earlier - len(curve))
                curve.append(float(values.get(name, math.nan)))

    def has_reading(self, step: int) -> bool:
        """Whether the last reading was taken in this step."""
        return self.history.get("read_at", [])[-1:] == [step]

    def state_dict(self) -> dict[str, Any]:
        """Everything but ``inconclusive``, which depends on the alarms of the current call."""
        curves = {name: torch.tensor(values, dtype=torch.double) for name, values in self.history.items()}
        fields = {name: value for name, value in vars(self).items() if name != "inconclusive"}
        return {**fields, "history": curves, "alarms": dict(self.alarms)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "TrainingRecord":
        """The record whose `state_dict` this is."""
        history = {name: values.tolist() for name, values in state["history"].items()}
        return cls(**{**state, "history": history, "alarms": dict(state["alarms"])})
