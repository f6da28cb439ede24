"""The kernel `sghmc` has the law of its formula."""

import math

import pytest
import torch

from posterity.inference.adversarial.bayesian import sghmc


@pytest.mark.parametrize(("friction", "temperature", "step"), [(0.1, 1.0, 0.05), (0.5, 0.25, 0.2), (1.0, 1.0, 0.1)])
def test_the_kernel_has_the_moments_of_a_normal_target(friction, temperature, step):
    """10,000 chains on N(mean, sd²) after 50 relaxation times: mean and variance within 5 standard errors.

    The chains are independent and normal: standard errors sd/sqrt(n) and var sqrt(2/n), 7 % in all. Noise of a wrong
    scale, such as sqrt(friction η) for sqrt(2 friction η), is far beyond. Each target has a step of its own.
    """
    random, count = torch.Generator().manual_seed(1), 10_000
    mean, sd = torch.tensor([1.0, -3.0]).double(), torch.tensor([0.5, 2.0]).double()
    rate = step * sd**2
    position = torch.zeros(count, 2).double()
    velocity = torch.zeros_like(position)
    for _ in range(int(100 * max(friction / step, 1 / friction))):
        noise = torch.randn(count, 2, generator=random).double()
        position, velocity = sghmc(
            position, velocity, (mean - position) / sd**2, noise, rate=rate, friction=friction, temperature=temperature
        )  # fmt: skip
    variance = temperature * sd**2 / (1 - step / (4 - 2 * friction))
    assert bool(((position.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all())
    assert bool(((position.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / count)).all())
    speed = variance * step / (1 - friction / 2)  # that of the velocity, about η T
    assert bool(((velocity.var(0) / speed - 1).abs() < 5 * math.sqrt(2 / count)).all())


def test_a_step_of_the_kernel_is_the_formula():
    """v = 0.9 * 2 + 0.01 * 3 + sqrt(2 * 0.1 * 0.01 * 4) * 0.5, θ = 1 + v."""
    one, two, three, half = (torch.tensor(value).double() for value in (1.0, 2.0, 3.0, 0.5))
    position, velocity = sghmc(one, two, three, half, rate=0.01, friction=0.1, temperature=4.0)
    expected = 1.8 + 0.03 + math.sqrt(0.008) * 0.5
    assert float(velocity) == pytest.approx(expected)
    assert float(position) == pytest.approx(1 + expected)
