import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterity.data import gp_curve, simulate_curve, sinc_curve, sine_parabola, wavy

CURVES = {
    "gp": gp_curve,
    "sinc": sinc_curve,
    "parabola": sine_parabola,
    "wavy": wavy,
}
FORMULAS = {
    "sinc": lambda x: math.sin(x) / x if x else 1.0,
    "parabola": lambda x: math.sin(x) + 0.1 * x**2,
    "wavy": lambda x: math.sin(1.5 * x) + 0.3 * x,
}


@pytest.mark.parametrize("name", CURVES)
def test_residuals_are_the_stated_noise(name):
    n, noise = 5_000, 0.3
    data = CURVES[name](n, noise=noise, seed=1)
    residual = (data.y - data.oracle(data.x).mean).double()
    # Seed 1; 4 standard errors: noise / sqrt(n) for the mean, noise / sqrt(2 n) for the deviation.
    assert abs(residual.mean()) < 4 * noise / math.sqrt(n)
    assert abs(residual.std() - noise) < 4 * noise / math.sqrt(2 * n)
    # The mean log density is -entropy; its variance for one point is 1/2.
    entropy = 0.5 * math.log(2 * math.pi * math.e * noise**2)
    assert abs(data.oracle_log_prob().double().mean() + entropy) < 4 * math.sqrt(0.5 / n)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_oracle_mean_is_the_formula(name):
    x = torch.tensor([-7.0, -2.0, 0.0, 0.5, 3.0, 12.0])
    expected = [FORMULAS[name](value) for value in x.tolist()]
    assert CURVES[name](20, seed=0).oracle(x[:, None]).mean.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "n", "low", "high"), [("sinc", 100, -10, 10), ("parabola", 15, -4, 4), ("wavy", 86, -4, 4)]
)
def test_defaults_are_the_documented_ones(name, n, low, high):
    data = CURVES[name](seed=0)
    assert data.x.shape == (n, 1)
    assert data.y.shape == (n,)
    assert low <= data.x.min() < low + 0.3 * (high - low)
    assert high - 0.3 * (high - low) < data.x.max() <= high


@pytest.mark.parametrize("name", CURVES)
def test_the_seed_decides_and_the_global_state_is_left_alone(name):
    before = torch.get_rng_state()
    first, again, other = (CURVES[name](30, seed=seed) for seed in (5, 5, 6))
    assert first.x.equal(again.x)
    assert first.y.equal(again.y)
    assert not first.y.equal(other.y)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("name", CURVES)
def test_a_louder_noise_moves_the_points_of_the_same_seed_along(name):
    quiet, loud = (CURVES[name](30, noise=noise, seed=5) for noise in (0.1, 0.2))
    assert quiet.x.equal(loud.x)
    f = quiet.oracle(quiet.x).mean
    torch.testing.assert_close(loud.y - f, 2 * (quiet.y - f), atol=1e-6, rtol=1e-4)


def test_noise_may_depend_on_x():
    n = 20_000
    data = sinc_curve(n, noise=lambda x: 0.1 + 0.05 * x.abs(), seed=2)
    scale = data.oracle(data.x).stddev
    torch.testing.assert_close(scale, 0.1 + 0.05 * data.x[:, 0].abs())
    z = ((data.y - data.oracle(data.x).mean) / scale).double()
    for part in (z[data.x[:, 0].abs() < 3], z[data.x[:, 0].abs() > 7]):  # seed 2; 4 standard errors
        assert abs(part.std() - 1) < 4 / math.sqrt(2 * len(part))


def test_without_noise_the_points_lie_on_the_curve_and_there_is_no_oracle():
    data = sine_parabola(noise=0, seed=0)
    assert data.oracle is None
    torch.testing.assert_close(data.y, data.x[:, 0].sin() + 0.1 * data.x[:, 0] ** 2)


@given(
    st.tuples(st.floats(-50, 50), st.floats(0.1, 50), st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 200),
    st.integers(0, 1000),
)
def test_no_point_is_in_the_gap_or_outside_of_the_interval(place, n, seed):
    low, length, a, b = place
    high = low + length
    gap = (low + min(a, b) * length, low + max(a, b) * length)
    if not low <= gap[0] < gap[1] <= high or gap[1] - gap[0] > 0.99 * length:
        return
    x = simulate_curve(torch.sin, n, noise=0.1, interval=(low, high), gap=gap, seed=seed).x.double()
    rounding = 1e-5  # of float32 at 100
    assert len(x) == n
    assert ((x >= low - rounding) & (x <= high + rounding)).all()
    assert not ((x > gap[0] + rounding) & (x < gap[1] - rounding)).any()


def test_points_are_uniform_around_the_gap():
    n = 30_000
    x = sinc_curve(n, gap=(-4, 1), seed=3).x[:, 0]
    # Left of the gap lie 6 of the 15 units that are left. Seed 3; 4 standard errors of a binomial share.
    assert abs((x < -4).double().mean() - 0.4) < 4 * math.sqrt(0.4 * 0.6 / n)
    assert abs((x > 5.5).double().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)


def test_wavy_leaves_out_three_quarters_in_the_middle():
    n = 30_000
    x = wavy(n, seed=4).x[:, 0]
    share = 0.25 * 2 / (6 + 0.25 * 2)
    assert abs((x.abs() < 1).double().mean() - share) < 4 * math.sqrt(share * (1 - share) / n)
    assert abs((x.abs() < 0.5).double().mean() - share / 2) < 4 * math.sqrt(share / 2 / n)
    assert abs((wavy(n, gap=None, seed=4).x.abs() < 1).double().mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n)


@pytest.mark.parametrize("length_scale", [0.5, 1.5])
def test_draws_of_the_process_have_its_covariance(length_scale):
    draws = 250
    x = torch.tensor([[0.0], [0.4], [1.0], [3.0], [19.0]], dtype=torch.float64)
    f = torch.stack([gp_curve(1, length_scale=length_scale, seed=s).oracle(x).mean for s in range(draws)])
    kernel = torch.exp(-((x - x.T) ** 2) / (2 * length_scale**2))
    assert (f.mean(0).abs() < 4 / math.sqrt(draws)).all()
    # Seeds 0 to 249; 4 standard errors: the sample covariance of normals has variance (1 + k²) / draws.
    error = (f.T @ f / draws - kernel).abs()
    assert (error < 4 * ((1 + kernel**2) / draws).sqrt()).all()


def test_the_curve_of_a_process_does_not_depend_on_the_data():
    x = torch.linspace(-20, 20, 9)[:, None]
    curves = [
        gp_curve(10, seed=8),
        gp_curve(1000, seed=8),
        gp_curve(10, noise=0.9, gap=(-1, 1), interval=(-5, 5), seed=8),
    ]
    values = [curve.oracle(x).mean for curve in curves]
    assert values[0].equal(values[1])
    assert values[0].equal(values[2])
    long = torch.linspace(-20, 20, 10_000, dtype=torch.float64)[:, None]  # more than one chunk
    long_values = curves[0].oracle(long).mean
    torch.testing.assert_close(curves[0].oracle(long[4000:4200]).mean, long_values[4000:4200])
    assert long_values.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "expected n to be a whole number of 1 or more, got 0"),
        ({"noise": -0.1}, "expected noise to be a finite number of 0 or more, got -0.1"),
        ({"noise": math.nan}, "expected noise to be a finite number of 0 or more, got nan"),
        ({"noise": lambda x: -x.abs()}, r"expected noise\(x\) to be finite and above 0, got values from"),
        ({"noise": lambda x: torch.ones(2)}, r"expected noise\(x\) of shape \(10,\), got \(2,\)"),
        ({"f": lambda x: x[:, None]}, r"expected f\(x\) of shape \(10,\), got \(10, 1\)"),
        ({"interval": (1.0, 1.0)}, r"expected interval to be two finite numbers .* got \(1.0, 1.0\)"),
        ({"interval": (0.0, math.inf)}, r"expected interval to be two finite numbers .* got \(0.0, inf\)"),
        ({"gap": (0.5, 2.0)}, r"expected gap inside the interval \(0.0, 1.0\), got \(0.5, 2.0\)"),
        ({"gap": (0.5, 0.5)}, r"expected gap to be two finite numbers"),
        ({"gap": (0.0, 1.0)}, r"expected gap to leave a part of the interval \(0.0, 1.0\)"),
        ({"gap_density": -1.0}, r"expected gap_density to be a finite number of 0 or more, got -1.0"),
        ({"seed": None}, r"expected seed to be an int or a torch.Generator, got None"),
    ],
)
def test_impossible_curves_are_refused(change, message):
    good = {"f": torch.sin, "n": 10, "noise": 0.1, "interval": (0.0, 1.0), "seed": 0}
    with pytest.raises(ValueError, match=message):
        simulate_curve(**(good | change))


def test_impossible_questions_are_refused():
    with pytest.raises(ValueError, match=r"expected length_scale to be a finite number above 0, got 0"):
        gp_curve(10, length_scale=0, seed=0)
    with pytest.raises(ValueError, match=r"expected x of shape \(M, 1\), got \(3,\)"):
        sinc_curve(seed=0).oracle(torch.ones(3))
