"""The last good state of a run, and the clock of its checkpoints."""

import pytest
import torch

from posterity.inference.training import recovery
from posterity.inference.training.recovery import Every, LastGood


def test_the_good_state_is_a_copy_and_comes_back():
    value = torch.zeros(2)
    good = LastGood(lambda: {"value": value}, lambda state: value.copy_(state["value"]))
    value += 1
    good.keep()
    value += 5
    assert good.state["value"].tolist() == [1, 1]
    good.restore()
    assert value.tolist() == [1, 1]
    value += 1
    good.restore()  # again: restoring does not use the state up
    assert value.tolist() == [1, 1]


def test_a_step_that_is_interrupted_leaves_a_state_that_is_not_whole():
    value = [0]
    good = LastGood(lambda: list(value), lambda state: value.__setitem__(slice(None), state))
    with good.changing():
        assert not good.whole
        value[0] = 1
    assert good.whole

    def interrupted():
        with good.changing():
            value[0] = 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not good.whole
    good.restore()
    assert good.whole
    assert value == [0]


def test_a_checkpoint_is_due_once_in_every_interval(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(recovery.time, "monotonic", lambda: now[0])
    timer, due = Every(10), []
    for now[0] in (105.0, 110.0, 110.5, 111.0, 120.0, 121.0, 150.0, 151.0):
        if timer.due():
            due.append(now[0])
    assert due == [110.5, 121.0, 150.0]
