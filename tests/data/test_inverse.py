"""The simulators against their floors, which are derived here a second time from h(y|x) = h(y) + h(x|y) - h(x)."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from posterity.data import bishop, inverse_sine, two_dimensional

PROBLEMS = {
    "sine": (lambda n, seed: inverse_sine(n, seed=seed), 1.2880),
    "bishop uniform": (lambda n, seed: bishop(n, seed=seed), -1.2823),
    "bishop normal 0.05": (lambda n, seed: bishop(n, "normal", 0.05, seed=seed), -1.2263),
    "bishop normal 0.1": (lambda n, seed: bishop(n, "normal", 0.1, seed=seed), -0.6992),
}
each = pytest.mark.parametrize("name", PROBLEMS)


@each
def test_the_oracle_reaches_the_floor_on_fresh_data(name):
    make, floor = PROBLEMS[name]
    nll = -make(20_000, 11).oracle_log_prob().double()
    # Seed 11, 4 standard errors, and half of the floor's last digit.
    assert abs(nll.mean() - floor) < 4 * nll.std() / math.sqrt(len(nll)) + 5e-5


def bishop_curve(t):
    return t + 0.3 * np.sin(2 * np.pi * t)


def sine_curve(y):
    return 7 * np.sin(0.75 * y) + 0.5 * y


@pytest.mark.parametrize(
    ("name", "curve", "low", "high", "noise", "scale"),
    [
        ("sine", sine_curve, -10.5, 10.5, "normal", 1.0),
        ("bishop uniform", bishop_curve, 0.0, 1.0, "uniform", 0.1),
        ("bishop normal 0.05", bishop_curve, 0.0, 1.0, "normal", 0.05),
        ("bishop normal 0.1", bishop_curve, 0.0, 1.0, "normal", 0.1),
    ],
)
def test_the_floor_is_the_conditional_entropy(name, curve, low, high, noise, scale):
    # h(y) = log(high - low), h(x|y) is the entropy of the noise, and h(x) comes from p(x) on a grid: the values of
    # the curve on a fine grid of y, smoothed with the noise, without code of the package.
    y = low + (high - low) * (np.arange(400_000) + 0.5) / 400_000
    values = np.sort(curve(y))
    if noise == "uniform":
        x = np.linspace(values[0] - scale, values[-1] + scale, 200_001)
        x = 0.5 * (x[1:] + x[:-1])
        count = np.searchsorted(values, x + scale) - np.searchsorted(values, x - scale)
        density = count / len(values) / (2 * scale)
        noise_entropy = math.log(2 * scale)
    else:
        mass, edges = np.histogram(values, bins=1000)
        middles = 0.5 * (edges[1:] + edges[:-1])
        x = np.linspace(values[0] - 9 * scale, values[-1] + 9 * scale, 2001)
        x = 0.5 * (x[1:] + x[:-1])
        density = norm.pdf(x[:, None], middles, scale) @ (mass / mass.sum())
        noise_entropy = 0.5 * math.log(2 * math.pi * math.e * scale**2)
    spacing = x[1] - x[0]
    assert density.sum() * spacing == pytest.approx(1, abs=1e-5)
    positive = density[density > 0]
    floor = math.log(high - low) + noise_entropy + (positive * np.log(positive)).sum() * spacing
    assert floor == pytest.approx(PROBLEMS[name][1], abs=1e-4)


@each
def test_the_mean_entropy_of_the_oracle_is_the_floor(name):
    data = PROBLEMS[name][0](10, 0)
    # The midpoint rule over all x that can occur; uniform noise stops at -0.1 and 1.1.
    low, high = {"sine": (-23.0, 23.0), "bishop uniform": (-0.1, 1.1)}.get(name, (-1.0, 2.0))
    x = low + (high - low) * (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    oracle = data.oracle(x[:, None])
    mass = oracle.log_marginal.exp() * (high - low) / 4000
    assert mass.sum().item() == pytest.approx(1, abs=2e-5)
    assert (mass * oracle.entropy()).sum().item() == pytest.approx(PROBLEMS[name][1], abs=1e-4)


@each
def test_targets_and_noise_are_the_stated_ones(name):
    data = PROBLEMS[name][0](20_000, 15)
    x, y = data.x[:, 0].double().numpy(), data.y.double().numpy()
    low, high, curve = (-10.5, 10.5, sine_curve) if name == "sine" else (0.0, 1.0, bishop_curve)
    share = (y - low) / (high - low)
    assert kstest(share, "uniform").pvalue > 1e-4  # seed 15, level 1e-4
    # The extremes of 20,000 uniform draws are within 10 / 20,000 of the ends but for one in 20,000 seeds each.
    assert 0 <= share.min() < 5e-4
    assert 1 - 5e-4 < share.max() <= 1
    if name == "bishop uniform":
        error = ((x - bishop_curve(y)) / 0.1 + 1) / 2
        assert -1e-5 < error.min() < 5e-4
        assert 1 - 5e-4 < error.max() < 1 + 1e-5
        assert kstest(error, "uniform").pvalue > 1e-4
    else:
        scale = {"sine": 1.0, "bishop normal 0.05": 0.05, "bishop normal 0.1": 0.1}[name]
        assert kstest((x - curve(y)) / scale, "norm").pvalue > 1e-4


@each
def test_the_oracle_is_calibrated(name):
    data = PROBLEMS[name][0](20_000, 12)
    assert kstest(data.oracle(data.x).cdf(data.y).numpy(), "uniform").pvalue > 1e-4  # seed 12, level 1e-4


@each
def test_the_mean_of_the_oracle_has_its_variance_as_error(name):
    data = PROBLEMS[name][0](20_000, 13)
    oracle = data.oracle(data.x)
    excess = ((data.y - oracle.mean) ** 2 - oracle.variance).double()
    assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(len(excess))  # seed 13, 4 standard errors


@each
def test_the_seed_decides_about_a_problem_and_the_global_state_is_left_alone(name):
    make = PROBLEMS[name][0]
    before = torch.get_rng_state()
    first, again, other = make(50, 1), make(50, 1), make(50, 2)
    assert first.x.equal(again.x)
    assert first.y.equal(again.y)
    assert not first.x.equal(other.x)
    assert torch.get_rng_state().equal(before)


def test_bishop_uniform_has_the_known_moments():
    oracle = bishop(10, seed=0).oracle(torch.tensor([[0.5], [0.2]], dtype=torch.float64))
    assert oracle.mean.tolist() == pytest.approx([0.5, 0.072], abs=5e-4)
    assert oracle.stddev[0].item() == pytest.approx(0.200, abs=5e-4)
    x = torch.linspace(-0.1, 1.1, 20_002, dtype=torch.float64)[1:-1, None]
    everywhere = bishop(10, seed=0).oracle(x)
    weight = everywhere.log_marginal.exp()
    assert ((weight * everywhere.variance).sum() / weight.sum()).item() == pytest.approx(0.0383, abs=5e-5)


def test_bishop_uniform_is_flat_where_bishop_normal_has_three_modes():
    t = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None]
    x = torch.tensor([[0.5]], dtype=torch.float64)
    density = bishop(10, "normal", 0.05, seed=0).oracle(x).log_prob(t)[:, 0]
    peaks = (density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])
    assert t[1:-1, 0][peaks].tolist() == pytest.approx([0.21, 0.50, 0.79], abs=0.005)
    flat = bishop(10, seed=0).oracle(x).log_prob(t)
    assert len(flat[flat.isfinite()].unique()) == 1


def test_inverse_sine_is_odd_and_has_five_answers_at_zero():
    oracle = inverse_sine(10, seed=0).oracle(torch.tensor([[0.0], [3.0], [-3.0]], dtype=torch.float64))
    y = torch.linspace(-10.5, 10.5, 20_001, dtype=torch.float64)[:, None]
    density = oracle.log_prob(y)
    torch.testing.assert_close(density[:, 0], density[:, 0].flip(0))
    torch.testing.assert_close(density[:, 1], density[:, 2].flip(0))
    peaks = (density[1:-1, 0] > density[:-2, 0]) & (density[1:-1, 0] > density[2:, 0])
    assert int(peaks.sum()) == 5


def test_the_two_targets_have_the_stated_noise():
    n = 40_000
    data = two_dimensional(n, 0.9, seed=14)
    z = data.x[:, 0].double()
    first, second = 7 * torch.sin(0.75 * z) + 0.5 * z, 6.5 * torch.cos(0.8 * z) + 0.5 * z
    residual = data.y.double() - torch.stack([first, second], -1)
    covariance = residual.T @ residual / n
    # Seed 14; 4 standard errors: (1 + r²) / n off the diagonal, 2 / n on it.
    assert abs(covariance[0, 1] - 0.9) < 4 * math.sqrt(1.81 / n)
    assert ((covariance.diagonal() - 1).abs() < 4 * math.sqrt(2 / n)).all()
    assert kstest(z.numpy() / 21 + 0.5, "uniform").pvalue > 1e-4
    # Floor: log(2 pi e) + log(1 - r²) / 2; the log density of one row has variance 1.
    floor = math.log(2 * math.pi * math.e) + 0.5 * math.log(1 - 0.81)
    assert floor == pytest.approx(2.0075, abs=5e-5)
    assert abs(-data.oracle_log_prob().double().mean() - floor) < 4 / math.sqrt(n)


def test_without_correlation_the_two_targets_are_independent():
    oracle = two_dimensional(10, 0.0, seed=0).oracle(torch.zeros(3, 1, dtype=torch.float64))
    assert oracle.batch_shape == (3,)
    assert oracle.event_shape == (2,)
    torch.testing.assert_close(oracle.covariance_matrix[0], torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(oracle.mean[0], torch.tensor([0.0, 6.5], dtype=torch.float64))


def test_defaults_and_names():
    assert len(inverse_sine(seed=0)) == 3000
    assert len(two_dimensional(seed=0)) == 5000
    assert bishop(5, seed=0).y_names == ("t",)
    assert bishop(5, "normal", 0.05, seed=0).name == "bishop_normal_0.05"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inverse_sine(0, seed=0), "expected n to be a whole number of 1 or more, got 0"),
        (lambda: bishop(10, "cauchy", seed=0), "expected noise to be one of 'uniform', 'normal', got 'cauchy'"),
        (lambda: bishop(10, scale=-1.0, seed=0), r"expected scale to be a finite number above 0, got -1\.0"),
        (lambda: bishop(-1, seed=0), "expected n to be a whole number of 1 or more, got -1"),
        (lambda: two_dimensional(10, 1.0, seed=0), r"expected correlation to be a number in \(-1, 1\), got 1\.0"),
        (lambda: two_dimensional(2.5, seed=0), r"expected n to be a whole number of 1 or more, got 2\.5"),
        (lambda: bishop(10, seed="a"), "expected seed to be an int or a torch.Generator, got 'a'"),
        (lambda: bishop(10, seed=0).oracle(torch.ones(3)), r"expected x of shape \(M, 1\), got \(3,\)"),
        (lambda: bishop(10, seed=0).oracle(torch.full((3, 1), 2.0)), r"got 3 of 3 with p\(x\) = 0"),
    ],
)
def test_impossible_problems_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
