"""Poisson numbers against scipy's quantiles, and their gradient against the derivative of known means."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from posterity.models.showers import poisson_numbers

GRID = torch.special.ndtri((torch.arange(20_000, dtype=torch.double) + 0.5) / 20_000)


@pytest.mark.parametrize("rate", [1e-3, 0.4, 2.5, 5.99])
def test_small_rates_have_the_quantiles_of_the_distribution(rate: float) -> None:
    numbers = poisson_numbers(torch.full_like(GRID, rate), GRID)
    wanted = poisson.ppf(torch.special.ndtr(GRID).numpy(), rate)
    assert np.mean(numbers.numpy() == wanted) > 0.9995  # one or two lie on a step


@pytest.mark.parametrize("rate", [6.01, 15.0, 300.0])
def test_large_rates_differ_by_less_than_one_percent(rate: float) -> None:
    numbers = poisson_numbers(torch.full_like(GRID, rate), GRID).numpy().astype(int)
    shares = np.bincount(numbers) / len(numbers)
    assert 0.5 * np.abs(shares - poisson.pmf(np.arange(len(shares)), rate)).sum() < 0.006
    assert numbers.mean() == pytest.approx(rate, abs=2e-3)
    assert numbers.var() / rate == pytest.approx(1, abs=0.03)


def test_a_rate_of_zero_gives_zero() -> None:
    assert poisson_numbers(torch.zeros(5), torch.full((5,), 4.0)).tolist() == [0] * 5


def test_the_gradient_is_that_of_the_mean_of_a_smooth_function() -> None:
    """d/dr E[n²] = 2 r + 1 for a Poisson variable; the derivative at the numbers gives 2 r: right up to curvature."""
    rate = torch.tensor(3.0, dtype=torch.double, requires_grad=True)
    poisson_numbers(rate.expand(len(GRID)), GRID).square().mean().backward()
    assert rate.grad is not None
    assert float(rate.grad) == pytest.approx(2 * 3.0, rel=0.01)
    rate.grad = None
    (3 * poisson_numbers(rate.expand(len(GRID)), GRID)).mean().backward()
    assert float(rate.grad) == pytest.approx(3.0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected z of the shape \(3,\) of rate, got"):
        poisson_numbers(torch.ones(3), torch.ones(4))
    for rate, z in ((-1.0, 0.0), (math.nan, 0.0), (1.0, math.nan), (math.inf, 0.0)):
        with pytest.raises(ValueError, match="expected finite z and finite rate of at least 0"):
            poisson_numbers(torch.tensor([rate]), torch.tensor([z]))
    rates, z = torch.rand(3, 5), torch.randn(3, 5)
    assert torch.equal(poisson_numbers(rates.T, z.T), poisson_numbers(rates, z).T)
    with pytest.raises(ValueError, match="rate"):
        poisson_numbers(torch.ones(3, dtype=torch.long), torch.ones(3))
    assert math.isfinite(float(poisson_numbers(torch.tensor([1e6]), torch.tensor([5.0]))))
