"""Conditionals with normal noise, against SciPy's adaptive quadrature."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from posterity.data import NormalNoiseConditional
from tests.conditional_cases import curve, double, normal

NORMALS = pytest.mark.parametrize(
    "case",
    [
        (curve, 0.0, 1.0, 0.05),
        (curve, 0.0, 1.0, 0.1),
        (lambda y: 7 * torch.sin(0.75 * y) + 0.5 * y, -10.5, 10.5, 1.0),
        (lambda y: y**2, 3.0, 4.0, 0.2),
    ],
    ids=["bishop 0.05", "bishop 0.1", "sine", "square"],
)


@NORMALS
def test_normal_noise_agrees_with_adaptive_quadrature(case):
    g, low, high, scale = case
    grid = torch.linspace(low, high, 999, dtype=torch.float64)
    reach = g(grid)
    xs = torch.linspace(float(reach.min()) - 4 * scale, float(reach.max()) + 4 * scale, 7, dtype=torch.float64)
    conditional = NormalNoiseConditional(xs, g, low, high, scale)
    for i, x in enumerate(xs.tolist()):

        def likelihood(y, x=x):
            z = (x - float(g(double(y)))) / scale
            return math.exp(-0.5 * z**2) / (scale * math.sqrt(2 * math.pi))

        def integral(f):  # over pieces, so that no narrow mode is missed
            ends = pairwise(torch.linspace(low, high, 41).tolist())
            return sum(quad(f, a, b, epsabs=1e-14, epsrel=1e-11)[0] for a, b in ends)

        total = integral(likelihood)
        mean = integral(lambda y: y * likelihood(y)) / total
        variance = integral(lambda y, mean=mean: (y - mean) ** 2 * likelihood(y)) / total
        assert conditional.log_marginal[i].item() == pytest.approx(math.log(total / (high - low)), abs=1e-7)
        assert conditional.mean[i].item() == pytest.approx(mean, abs=1e-7)
        assert conditional.variance[i].item() == pytest.approx(variance, abs=1e-7)
        y = 0.37 * low + 0.63 * high
        assert conditional.log_prob(double(y))[i].item() == pytest.approx(math.log(likelihood(y) / total), abs=1e-7)


def test_a_straight_line_far_from_its_ends_is_a_normal():
    line = NormalNoiseConditional(double(0.2, 0.5), lambda y: y, -10.0, 10.0, 0.5)
    expected = torch.distributions.Normal(double(0.2, 0.5), 0.5)
    y = double(-1.3, 0.9)
    torch.testing.assert_close(line.log_prob(y), expected.log_prob(y))
    torch.testing.assert_close(line.cdf(y), expected.cdf(y))
    torch.testing.assert_close(line.icdf(double(0.01, 0.8)), expected.icdf(double(0.01, 0.8)))
    torch.testing.assert_close(line.mean, expected.mean)
    torch.testing.assert_close(line.variance, expected.variance)
    torch.testing.assert_close(line.entropy(), expected.entropy())


def test_an_x_that_no_curve_reaches_is_still_exact():
    x, scale = 1.5, 0.05  # ten standard deviations above the curve: all mass is at the top of the range

    def density(y):
        return math.exp(0.5 * ((x - 1) ** 2 - (x - float(curve(double(y)))) ** 2) / scale**2)

    total = quad(density, 0.9, 1, epsabs=0, epsrel=1e-10)[0]
    below = quad(lambda y: (1 - y) * density(y), 0.9, 1, epsabs=0, epsrel=1e-10)[0] / total
    far = normal(double(x))
    assert 1 - far.mean.item() == pytest.approx(below, rel=1e-6)
    expected = math.log(total / (scale * math.sqrt(2 * math.pi))) - 0.5 * ((x - 1) / scale) ** 2
    assert far.log_marginal.item() == pytest.approx(expected, abs=1e-7)
    assert far.cdf(far.icdf(double(0.3))).item() == pytest.approx(0.3, abs=1e-10)
