"""The choice of the number of threads."""

import time

import pytest
import torch

from posterity.inference.engine.lanes.machine import cores
from posterity.inference.engine.threads import fastest_threads


class SlowEngine:
    torch_threads = 1

    def __init__(self):
        self.calls = 0

    def use_threads(self, count):
        self.threads = count

    def gradient(self, q):
        self.calls += 1
        time.sleep(0.3 if self.threads == 1 else 0.1)
        return q[:, 0], q


@pytest.mark.skipif(cores() == 1, reason="there is nothing to choose")
def test_slow_gradients_are_tried_twice_alone():
    engine = SlowEngine()
    assert fastest_threads(engine, torch.zeros(3, 2)) == cores()
    assert engine.calls == 2
