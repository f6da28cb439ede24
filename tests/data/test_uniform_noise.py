"""Conditionals with uniform noise, against closed forms and dense grids."""

import pytest
import torch

from posterity.data import UniformNoiseConditional
from tests.conditional_cases import X, curve, double, uniform


def test_a_straight_line_with_uniform_noise_is_uniform_up_to_the_ends():
    line = UniformNoiseConditional(double(0.5, 0.05, 1.0), lambda y: y, 0.0, 1.0, 0.1)
    expected = torch.distributions.Uniform(double(0.4, 0.0, 0.9), double(0.6, 0.15, 1.0))
    y = double(0.45, 0.1, 0.97)
    for name in ("log_prob", "cdf", "icdf"):
        torch.testing.assert_close(getattr(line, name)(y), getattr(expected, name)(y))
    torch.testing.assert_close(line.mean, expected.mean)
    torch.testing.assert_close(line.variance, expected.variance)
    torch.testing.assert_close(line.entropy(), expected.entropy())
    # p(x) is the density of the sum of U(0, 1) and U(-0.1, 0.1).
    torch.testing.assert_close(line.log_marginal.exp(), double(1.0, 0.75, 0.5))


def test_the_support_under_uniform_noise_is_where_the_curve_is_close():
    conditional = uniform(X)
    y = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    distance = (X - curve(y)).abs()
    close = distance <= 0.1
    density = conditional.log_prob(y).exp()
    assert ((density > 0) == close)[(distance - 0.1).abs() > 1e-9].all()
    # A count of grid points determines a length up to one spacing for each of up to six ends.
    torch.testing.assert_close(1 / density.amax(0), close.double().mean(0), atol=6e-5, rtol=0)


def test_rounding_to_float32_does_not_push_a_point_off_its_support():
    t = torch.rand(20_000, dtype=torch.float64)
    for side in (-0.1, 0.1):  # on the very edge of the noise
        x = (curve(t) + side).float()
        keep = (x > -0.099) & (x < 1.099)
        assert torch.isfinite(uniform(x[keep]).log_prob(t[keep].float())).all()


def test_an_impossible_x_is_refused_under_uniform_noise():
    with pytest.raises(ValueError, match=r"expected x within 0\.1 of the curve, got 2 of 3 with p\(x\) = 0"):
        uniform(double(-0.2, 0.5, 1.2))
