"""`TrainingRecord`: curves stay aligned with the steps of their readings, and a stored record is restored exactly."""

import math

import pytest
import torch

from posterity.inference.adversarial import TrainingAlarm, mode_collapse
from posterity.inference.adversarial.record import TrainingRecord
from tests.adversarial_cases import Reads, train_monitored


def test_monitors_that_come_and_go_keep_all_readings_in_their_steps(tmp_path):
    path = tmp_path / "run.pt"
    train_monitored(steps=10, checkpoint=path)
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 20"):
        run = train_monitored(mode_collapse(readings=2), monitors=(Reads(spread=0.1),), resume=path, checkpoint=path)
    assert run.history["read_at"] == [5.0, 10.0, 15.0, 20.0, 25.0]
    assert [math.isnan(value) for value in run.history["spread"]] == [True, True, False, False, False]
    last = train_monitored(steps=30, resume=path)
    assert math.isnan(last.history["spread"][-1])
    assert {len(curve) for name, curve in last.history.items() if not name.endswith("_loss")} == {6}


def test_a_curve_that_starts_late_is_filled_with_nan():
    record = TrainingRecord()
    record.append_losses({"generator_loss": 1.0})
    record.append_reading({"read_at": 1.0, "spread": 0.5})
    record.append_losses({"generator_loss": 2.0})
    record.append_reading({"read_at": 2.0, "modes": 8})
    assert record.history["generator_loss"] == [1.0, 2.0]
    assert record.history["read_at"] == [1.0, 2.0]
    assert record.history["spread"][0] == 0.5
    assert math.isnan(record.history["spread"][1])
    assert math.isnan(record.history["modes"][0])
    assert record.history["modes"][1] == 8.0
    assert [record.has_reading(step) for step in (1, 2, 3)] == [False, True, False]


def test_a_stored_record_is_restored_exactly_without_its_inconclusive_alarms(tmp_path):
    """Through a file without pickle; 0.1 is no float32 number."""
    record = TrainingRecord(
        history={"generator_loss": [0.1, math.inf], "read_at": [2.0]},
        alarms={"saturation": 2},
        inconclusive={"mode_collapse": "too short"},
        best_step=2,
        best_value=0.1,
        best_weights={"weight": torch.arange(3.0)},
    )
    torch.save(record.state_dict(), tmp_path / "record.pt")
    restored = TrainingRecord.from_state_dict(torch.load(tmp_path / "record.pt", weights_only=True))
    assert restored.history == record.history
    assert restored.alarms == record.alarms
    assert (restored.best_step, restored.best_value, restored.inconclusive) == (2, 0.1, {})
    assert torch.equal(restored.best_weights["weight"], record.best_weights["weight"])
