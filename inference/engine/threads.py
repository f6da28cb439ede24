"""Threads: the cores of this process, the number of threads of torch, and the faster of one thread or all cores."""

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
    """Let torch use ``count`` threads inside; afterwards the previous number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastest_threads(engine: "Engine", positions: Tensor, budget: float = 0.12, steps: int = 30) -> int:
    """The faster number of threads: one, or all cores where they save at least a tenth of the time.

    Both are timed in turns for about ``budget`` seconds in all, so that a busy moment of the machine affects both.
    Each measurement is a trajectory of at most ``steps`` steps. On other devices than the CPU the result is 1.
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
    if first > budget:  # long enough that starting threads does not matter
        return cores() if seconds(cores()) < 0.7 * first else 1
    steps = max(1, min(steps, round(budget / 4 / seconds(1))))
    value, grad = engine.gradient(positions)
    state = (positions, torch.zeros_like(positions), grad, value)
    # Steps of size zero do the work of a trajectory without moving.
    still, many = positions.new_zeros(len(positions)), torch.full((len(positions),), steps)
    mass = positions.new_ones(positions.shape[1])
    times: dict[int, list[float]] = {1: [], cores(): []}
    begun = time.perf_counter()
    while len(times[1]) < 3 or time.perf_counter() - begun < budget:
        for count, measured in times.items():
            engine.use_threads(count)
            with torch_threads(engine.torch_threads):
                engine.gradient(positions)  # starts the threads before the clock
                tick = time.perf_counter()
                engine.integrate(state, still, many, mass)
                measured.append(time.perf_counter() - tick)
        if times[cores()][-1] > 3 * times[1][-1]:
            return 1  # threads wait for each other on a busy machine: measure no longer
    one, all_cores = (statistics.median(measured) for measured in times.values())
    return cores() if all_cores < 0.9 * one else 1
