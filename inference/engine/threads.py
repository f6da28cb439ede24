"""Threads: how many this process may use, how many torch uses for a while, and which number is faster."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from posterity.inference.engine.lanes.machine import cores

if TYPE_CHECKING:
    from posterity.inference.engine.chains import Engine


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's number of threads inside, and the caller's after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastest_threads(engine: "Engine", positions: Tensor, budget: float = 0.12, steps: int = 30) -> int:
    """One thread or all cores, whichever does more steps in a moment; one where it does not matter.

    They take turns, so that a moment in which the machine is busy does not fall on one of them alone.
    """
    if cores() == 1 or positions.device.type != "cpu":
        return 1

    def seconds(count: int) -> float:
        engine.use_threads(count)
        with torch_threads(engine.torch_threads):
            tick = time.perf_counter()
            engine.gradient(positions)
            return time.perf_counter() - tick

    first = seconds(1)
    if first > budget:  # nothing of it is a matter of starting
        return cores() if seconds(cores()) < 0.7 * first else 1
    steps = max(1, min(steps, round(budget / 4 / seconds(1))))
    value, grad = engine.gradient(positions)
    state = (positions, torch.zeros_like(positions), grad, value)
    # Steps of size zero: the work of a trajectory, and no movement.
    still, many = positions.new_zeros(len(positions)), torch.full((len(positions),), steps)
    mass = positions.new_ones(positions.shape[1])
    times: dict[int, list[float]] = {1: [], cores(): []}
    begun = time.perf_counter()
    while len(times[1]) < 3 or time.perf_counter() - begun < budget:
        for count, found in times.items():
            engine.use_threads(count)
            with torch_threads(engine.torch_threads):
                engine.gradient(positions)  # new threads start here
                tick = time.perf_counter()
                engine.integrate(state, still, many, mass)
                found.append(time.perf_counter() - tick)
        if times[cores()][-1] > 3 * times[1][-1]:
            return 1  # on a busy machine threads wait for each other: not to be waited for here
    one, all_ = (statistics.median(found) for found in times.values())
    return cores() if all_ < 0.9 * one else 1
