"""Threads: torch's number is given back, and the faster number is found, by a clock that the engine puts forward."""

from types import SimpleNamespace

import pytest
import torch

from posterity.inference.engine import threads
from posterity.inference.engine.threads import fastest_threads, torch_threads

CORES = 4


@pytest.fixture
def now(monkeypatch):
    """The clock of the measurement, on a machine of four cores."""
    clock = SimpleNamespace(value=0.0)
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: clock.value))
    monkeypatch.setattr(threads, "cores", lambda: CORES)
    return clock


class TimedEngine:
    """An engine whose gradients take these seconds on one thread and on all."""

    torch_threads = 1

    def __init__(self, now, one, all_cores):
        self.now, self.seconds, self.calls, self.used = now, {1: one, CORES: all_cores}, 0, []

    def use_threads(self, count):
        self.count = count
        self.used.append(count)

    def gradient(self, q):
        self.calls += 1
        self.now.value += self.seconds[self.count]
        return q[:, 0], q

    def integrate(self, state, step, steps, mass):
        assert not step.any()  # nothing moves
        self.now.value += int(steps[0]) * self.seconds[self.count]
        return state


@pytest.mark.parametrize(
    ("one", "all_cores", "expected"),
    [
        (1e-4, 2.7e-5, CORES),
        (1e-4, 8e-5, CORES),
        (1e-4, 9.5e-5, 1),  # too little to gain
        (1e-4, 1e-3, 1),
        (0.3, 0.1, CORES),
        (0.3, 0.25, 1),  # of two single measurements, a larger gain is asked for
    ],
)
def test_the_faster_number_of_threads_is_taken(one, all_cores, expected, now):
    engine = TimedEngine(now, one, all_cores)
    assert fastest_threads(engine, torch.zeros(3, 2)) == expected
    assert now.value < 1


def test_slow_gradients_are_tried_twice_alone(now):
    engine = TimedEngine(now, 0.3, 0.1)
    fastest_threads(engine, torch.zeros(3, 2))
    assert engine.calls == 2


def test_both_numbers_take_turns(now):
    engine = TimedEngine(now, 1e-3, 5e-4)
    fastest_threads(engine, torch.zeros(3, 2))
    turns = engine.used[2:]  # after the first two gradients
    assert turns[:6] == [1, CORES] * 3
    assert len(turns) % 2 == 0


def test_threads_that_wait_for_each_other_are_not_waited_for(now):
    """On a busy machine, after one turn."""
    engine = TimedEngine(now, 1e-3, 10.0)
    assert fastest_threads(engine, torch.zeros(3, 2)) == 1
    assert engine.used.count(CORES) == 1


def test_one_core_or_another_device_is_not_measured(now, monkeypatch):
    engine = TimedEngine(now, 1e-3, 1e-4)
    assert fastest_threads(engine, torch.zeros(3, 2, device="meta")) == 1
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert fastest_threads(engine, torch.zeros(3, 2)) == 1
    assert engine.calls == 0


def test_torch_has_its_threads_back_also_after_an_error():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(KeyError), torch_threads(before + 2):
        raise KeyError
    assert torch.get_num_threads() == before
