"""The conditionals of both noises, against their own definitions."""

import math

import pytest
import torch
from scipy.stats import kstest

from posterity.data import NormalNoiseConditional, UniformNoiseConditional
from tests.conditional_cases import X, curve, double, normal, uniform

BOTH = pytest.mark.parametrize("make", [normal, uniform])


@BOTH
def test_the_density_integrates_to_one_and_the_cdf_is_its_integral(make):
    conditional = make(X)
    edges = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    middles = 0.5 * (edges[1:] + edges[:-1])
    running = (conditional.log_prob(middles[:, None]).exp() / 20_000).cumsum(0)
    # Midpoint rule; uniform noise has up to six jumps of at most 20, each wrong by half a cell at most.
    tolerance = 1e-5 if make is normal else 6 * 20 / 40_000
    torch.testing.assert_close(running[-1], torch.ones_like(X), atol=tolerance, rtol=0)
    torch.testing.assert_close(conditional.cdf(edges[1:, None]), running, atol=tolerance, rtol=0)


@BOTH
def test_mean_variance_and_entropy_are_those_of_the_density(make):
    conditional = make(X)
    y = ((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)[:, None]
    log_density = conditional.log_prob(y)
    mass = log_density.exp() / log_density.exp().sum(0)
    mean = (mass * y).sum(0)
    torch.testing.assert_close(conditional.mean, mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(conditional.variance, (mass * (y - mean) ** 2).sum(0), atol=1e-4, rtol=0)
    surprise = torch.where(mass > 0, -mass * log_density, 0.0).sum(0)
    torch.testing.assert_close(conditional.entropy(), surprise, atol=2e-3, rtol=0)


@BOTH
def test_the_marginal_density_integrates_to_one(make):
    x = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float64)
    if make is uniform:
        x = x[(x > -0.1 + 1e-9) & (x < 1.1 - 1e-9)]
    density = make(x).log_marginal.exp()
    assert float(density.sum() * 0.0005) == pytest.approx(1.0, abs=1e-3 if make is uniform else 1e-9)


@BOTH
def test_quantiles_invert_the_cdf(make):
    conditional = make(X)
    probability = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)[:, None].expand(200, len(X))
    y = conditional.icdf(probability)
    torch.testing.assert_close(conditional.cdf(y), probability, atol=1e-10, rtol=0)
    inside = conditional.log_prob(y) > 0
    torch.testing.assert_close(conditional.icdf(conditional.cdf(y))[inside], y[inside], atol=1e-9, rtol=0)
    assert (y.diff(dim=0) > 0).all()
    ends = conditional.icdf(double(0.0, 1.0)[:, None])
    assert ((ends >= 0) & (ends <= 1)).all()
    assert conditional.cdf(double(-1.0, 2.0)[:, None]).tolist() == [[0.0] * len(X), [1.0] * len(X)]


@BOTH
def test_samples_follow_the_distribution_function(make):
    conditional = make(X)
    y = conditional.sample((20_000,))  # seed 0, set by conftest
    assert y.shape == (20_000, len(X))
    u = conditional.cdf(y)
    # Eight Kolmogorov-Smirnov tests at a level of 1e-4 each: one false alarm in 1,250 seeds.
    assert min(kstest(u[:, i].numpy(), "uniform").pvalue for i in range(len(X))) > 1e-4
    standard_error = conditional.stddev / math.sqrt(20_000)
    assert ((y.mean(0) - conditional.mean).abs() < 4 * standard_error).all()
    assert torch.isfinite(conditional.log_prob(y)).all()


@BOTH
def test_outside_of_the_range_the_density_is_zero(make):
    assert make(X).log_prob(double(-0.001, 1.001, math.inf)[:, None]).isneginf().all()


@BOTH
def test_shapes_follow_those_of_torch(make):
    conditional = make(X[:6].reshape(2, 3))
    assert conditional.batch_shape == (2, 3)
    assert conditional.event_shape == ()
    assert conditional.sample((4, 5)).shape == (4, 5, 2, 3)
    assert conditional.mean.shape == conditional.variance.shape == conditional.entropy().shape == (2, 3)
    y = torch.full((5, 2, 3), 0.5, dtype=torch.float64)
    for value in (y, y[:, :1], y[0, 0, 0], y[0, :, :1]):
        assert conditional.log_prob(value).shape == torch.broadcast_shapes(value.shape, (2, 3))
        shape = torch.broadcast_shapes(value.shape, (2, 3))
        torch.testing.assert_close(conditional.cdf(value), conditional.cdf(y)[0].expand(shape))
    single = make(X[3])
    assert single.sample((7,)).shape == (7,)
    torch.testing.assert_close(single.cdf(y), make(X[3:4]).cdf(y))
    torch.testing.assert_close(make(X[3:4]).cdf(y[0, 0]), make(X[3].expand(3)).cdf(y[0, 0]))
    assert conditional.expand((4, 2, 3)).mean.shape == (4, 2, 3)
    torch.testing.assert_close(conditional.expand((4, 2, 3)).log_prob(y[:4]), conditional.log_prob(y[:4]))
    assert make(X[:0]).mean.shape == (0,)
    assert make(X[:0]).sample((2,)).shape == (2, 0)


@BOTH
def test_chunks_do_not_change_the_result(make, monkeypatch):
    y = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)[:, None]
    whole = make(X)
    expected = [whole.log_prob(y), whole.cdf(y), whole.icdf(y), whole.mean]
    for module in ("conditional", "uniform_noise"):
        monkeypatch.setattr(f"posterity.data.{module}.CHUNK", 64)
    pieces = make(X)
    for a, b in zip(expected, [pieces.log_prob(y), pieces.cdf(y), pieces.icdf(y), pieces.mean], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@BOTH
def test_float32_stays_float32_and_is_computed_in_float64(make):
    narrow = make(X.float())
    wide = make(X.float().double())
    y = torch.tensor(0.3)
    assert narrow.log_prob(y).dtype == narrow.mean.dtype == narrow.sample().dtype == torch.float32
    assert narrow.log_prob(y).equal(wide.log_prob(y.double()).float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normal(torch.tensor([1])), r"expected x to be a floating tensor, got torch\.int64"),
        (lambda: normal(double(0.1, math.nan)), "expected finite x, got 1 of 2 that are nan or infinite"),
        (lambda: normal(X, scale=0.0), r"expected scale to be a finite number above 0, got 0\.0"),
        (
            lambda: NormalNoiseConditional(X, curve, 1.0, 1.0, 0.1),
            r"expected range of y to be .*, got \(1",
        ),
        (
            lambda: UniformNoiseConditional(X, curve, 0, 1, 0.1, (0.7, 0.3)),
            "expected turning_points to increase",
        ),
        (lambda: UniformNoiseConditional(X, curve, 0, 1, 0.1, (1.3,)), r"between 0 and 1, got \[1\.3\]"),
        (lambda: normal(X).log_prob(double(0.1, 0.2)), r"to broadcast with x of shape \(8,\), got \(2,\)"),
        (lambda: normal(X).cdf(double(math.nan)), "expected value without NaN, got 1 NaN of 1"),
        (lambda: normal(X).icdf(double(1.5)), r"expected value to be a number in \[0, 1\], got 1\.5 to 1\.5"),
    ],
)
def test_impossible_arguments_of_conditionals_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
