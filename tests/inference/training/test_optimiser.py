"""`AdaptiveAdam`: steps that do not depend on units, gains that follow a drift and not the noise."""

import math

import pytest
import torch

from posterity.inference.training.optimiser import BACK, AdaptiveAdam
from posterity.inference.training.schedule import cosine


def descend(optimiser, q, gradient, steps=400, rate=0.05):
    for step in range(steps):
        q = q + optimiser.step(gradient(q), rate, cosine(step, steps, 0.01))
    return q


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**40])
def test_steps_in_other_units_are_the_same_steps(scale):
    """In powers of two to the last bit: parameters in units of ``scale``, gradients in its inverse."""
    optimum, start = torch.tensor([3.0, -1.0]), torch.zeros(2)
    one = descend(AdaptiveAdam(torch.ones(2), noisy=False), start, lambda q: q - optimum)
    other = descend(AdaptiveAdam(torch.full((2,), scale), noisy=False), start, lambda q: (q / scale - optimum) / scale)
    torch.testing.assert_close(other / scale, one, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(one, optimum, rtol=0, atol=1e-3)


def test_far_and_near_numbers_arrive_in_the_same_steps():
    """Optima at 1e-6, 1 and 1e6, all with unit 1: plain Adam would need 1e8 steps for the last."""
    optimum = torch.tensor([1e-6, 1.0, 1e6]).double()
    optimiser, start = AdaptiveAdam(torch.ones(3).double(), noisy=False), torch.zeros(3).double()
    found = descend(optimiser, start, lambda q: (q / optimum - 1) / optimum, steps=1500)
    torch.testing.assert_close(found, optimum, rtol=1e-3, atol=0)


def test_gains_of_noise_do_not_add_up():
    """3,000 gradients of pure noise leave the gain within a factor of 30; a drift of 1 grows it a hundredfold."""
    noise = torch.Generator().manual_seed(0)
    still, moving = AdaptiveAdam(torch.ones(50), noisy=True), AdaptiveAdam(torch.ones(50), noisy=True)
    for step in range(3000):
        gradient = torch.randn(50, generator=noise)
        still.step(gradient, 0.01)
        if step < 200:
            moving.step(0.1 * gradient + 1.0, 0.01)
    assert float(still.gain.abs().mean()) < math.log(30)
    assert float(moving.gain.min()) > math.log(100)


def test_plain_numbers_take_the_steps_of_adam():
    value = torch.randn(7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    adam, ours = torch.optim.Adam([value], lr=0.03), AdaptiveAdam(torch.zeros(7), noisy=False)
    mine = value.detach().clone()
    for _ in range(20):
        value.grad = value.detach() ** 3
        mine = mine + ours.step(mine**3, 0.03)
        adam.step()
    torch.testing.assert_close(mine, value.detach(), rtol=1e-4, atol=1e-6)


def test_the_full_rate_is_full_after_noise():
    """Noise without a direction through a whole schedule leaves gains where they were: within a factor of 3.

    Where gains shrink as fast at the end of a schedule as at its start, they end below a tenth, and the question
    whether the fit has arrived would be put at a tenth of the full rate.
    """
    generator = torch.Generator().manual_seed(0)
    optimiser = AdaptiveAdam(torch.ones(8), noisy=True)
    steps = 2000
    for step in range(steps):
        optimiser.step(torch.randn(8, generator=generator), 0.01, cosine(step, steps, 0.01))
    assert 1 / 3 < float(optimiser.gain.exp().median()) < 3


def test_a_gradient_that_is_not_finite_moves_nothing():
    optimiser = AdaptiveAdam(torch.ones(3), noisy=False)
    moved = optimiser.step(torch.tensor([torch.nan, torch.inf, 1.0]), 0.1)
    assert moved[:2].tolist() == [0.0, 0.0]
    assert float(moved[2]) == pytest.approx(-0.1)  # the first step of Adam has the size of the rate


def test_backing_off_forgets_the_direction_and_divides_the_gain():
    optimiser = AdaptiveAdam(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), noisy=False)
    optimiser.step(torch.ones(2, 2), 0.1)
    before = optimiser.gain.clone()
    optimiser.back_off(torch.tensor([False, True]))
    torch.testing.assert_close(before - optimiser.gain, torch.tensor([[0.0, 0.0], [BACK, 0.0]]))
    assert (optimiser.first == 0).tolist() == [[False, False], [True, True]]
    optimiser.back_off()
    assert bool((optimiser.first == 0).all())
