"""The width of vectors for a number of chains, and the tiles of each kind of processor."""

import os

import pytest
import torch

from posterity.inference.engine.lanes.machine import Machine, cores, machine


@pytest.mark.parametrize(
    ("chains", "dtype", "count", "lanes"),
    [
        (64, torch.float32, 2, 16),
        (64, torch.float64, 2, 8),
        (32, torch.float32, 2, 16),
        (16, torch.float32, 2, 8),  # one full vector would leave a thread without work
        (8, torch.float32, 1, 8),
        (9, torch.float32, 1, 16),
        (17, torch.float32, 2, 16),
        (16, torch.float32, 1, 16),
        (1, torch.float64, 4, 4),
    ],
)
def test_vectors_are_full_where_every_thread_has_one(chains, dtype, count, lanes):
    assert Machine(64, (4, 4)).lanes(chains, dtype, count) == lanes


def test_a_vector_has_two_chains_or_more():
    assert Machine(16, (4, 4)).lanes(1, torch.float64, 8) == 2
    assert Machine(8, (4, 4)).lanes(9, torch.float64, 1) == 2


@pytest.mark.parametrize(
    ("capability", "size", "registers"), [("AVX512", 64, 32), ("AVX2", 32, 16), ("DEFAULT", 16, 32)]
)
def test_a_tile_leaves_registers_for_the_factors(capability, size, registers, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = machine()
    rows, columns = found.tile
    assert found.bytes == size
    assert rows * columns + columns + 1 <= registers


def test_the_cores_of_this_process_are_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
