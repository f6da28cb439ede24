"""The learning rate of each step, against the schedules of torch."""

import numpy as np
import pytest
import torch

from posterity.inference.training.schedule import cosine


def rates_of(make, steps):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make(optimiser), []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    return rates


def test_one_period_is_torchs_cosine():
    expected = rates_of(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.2), 50)
    np.testing.assert_allclose([cosine(step, 50, 0.2) for step in range(50)], expected, rtol=1e-6)
    assert cosine(50, 50, 0.2) == pytest.approx(0.2)


def test_restarts_are_torchs_warm_restarts():
    def make(optimiser):
        return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, 10, T_mult=2, eta_min=0.1)

    expected = rates_of(make, 150)  # periods of 10, 20, 40 and 80 steps
    np.testing.assert_allclose([cosine(step, 150, 0.1, restarts=3) for step in range(150)], expected, rtol=1e-6)


def test_the_rate_starts_again_with_periods_twice_as_long():
    rates = np.array([cosine(step, 700, 0.1, restarts=2) for step in range(700)])
    assert np.flatnonzero(np.diff(rates) > 0.5).tolist() == [99, 299]
    assert rates[[0, 100, 300]] == pytest.approx([1.0, 1.0, 1.0])
    assert rates[50] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
