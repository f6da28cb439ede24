"""Adam with gains: Adam itself where a number has no unit, and the same steps in every unit where it has one."""

import pytest
import torch

from posterity.inference.training.optimiser import AdaptiveAdam


def test_numbers_without_a_unit_take_the_steps_of_adam():
    """Against `torch.optim.Adam` on a quadratic of three curvatures, 50 steps of exact gradients."""
    curvature = torch.tensor([0.1, 1.0, 30.0]).double()
    own, parameter = torch.ones(3).double(), torch.nn.Parameter(torch.ones(3).double())
    ours = AdaptiveAdam(torch.zeros(3).double(), noisy=False)
    theirs = torch.optim.Adam([parameter], lr=0.02)
    for _ in range(50):
        own = own + ours.step(curvature * own, 0.02)
        parameter.grad = curvature * parameter.detach()
        theirs.step()
    torch.testing.assert_close(own, parameter.detach(), rtol=1e-6, atol=1e-9)


def path(unit, steps=200):
    """Positions over the unit, on the way to a minimum 40 units away."""
    optimiser, q = AdaptiveAdam(torch.full((1,), unit).double(), noisy=False), torch.zeros(1).double()
    positions = []
    for _ in range(steps):
        q = q + optimiser.step((q - 40 * unit) / unit**2, 0.05)
        positions.append(float(q) / unit)
    return positions


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_path_is_the_same_in_every_unit(unit):
    assert path(unit) == pytest.approx(path(1.0), rel=1e-6)


def test_the_number_of_steps_is_logarithmic_in_the_distance():
    """40 units at a rate of 0.05 are 800 plain steps."""
    assert min(step for step, q in enumerate(path(1.0)) if q > 39) < 120


def test_backing_off_makes_the_next_step_ten_times_shorter_for_those_fits_alone():
    optimiser, gradient = AdaptiveAdam(torch.ones(2, 3).double(), noisy=False), torch.ones(2, 3).double()
    for _ in range(3):
        optimiser.step(gradient, 0.01)
    other = AdaptiveAdam(torch.ones(2, 3).double(), noisy=False)
    for _ in range(3):
        other.step(gradient, 0.01)
    before = optimiser.gain.clone()
    optimiser.back_off(torch.tensor([True, False]))
    torch.testing.assert_close((before - optimiser.gain).exp(), torch.tensor([[10.0] * 3, [1.0] * 3]).double())
    assert bool((optimiser.first[0] == 0).all())
    torch.testing.assert_close(optimiser.step(gradient, 0.01)[1], other.step(gradient, 0.01)[1])


def test_a_gradient_that_is_not_finite_counts_as_zero():
    one, two = (AdaptiveAdam(torch.ones(2), noisy=True) for _ in range(2))
    torch.testing.assert_close(
        one.step(torch.tensor([float("nan"), 1.0]), 0.1), two.step(torch.tensor([0.0, 1.0]), 0.1)
    )
