"""Noise on the data: its size in any unit, and the ridge regression that it makes of least squares."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from posterity.inference import Ensemble, infer
from posterity.inference.training.noise import DataNoise, check_noise, rule_of_thumb
from posterity.models import gaussian, mlp, point

REAL = constraints.real
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2000, 2, generator=GENERATOR) * torch.tensor([1.0, 3.0]) + 5
Y = X @ torch.tensor([1.0, -0.5]) + 0.3 * torch.randn(2000, generator=GENERATOR)


def test_the_rule_of_thumb():
    assert rule_of_thumb(10**5, 1, 0.5) == pytest.approx(0.05)
    assert rule_of_thumb(1, 3) == 1
    with pytest.raises(ValueError, match="expected rows to be a whole number of 1 or more, got 0"):
        rule_of_thumb(0, 1)
    with pytest.raises(ValueError, match="expected factor to be a finite number of 0 or more, got -1"):
        rule_of_thumb(10, 1, -1)


@pytest.mark.parametrize("noise", [None, 0.0, 0.1, (0.2, 0.1), [0.2, 0], "rule_of_thumb"])
def test_settings(noise):
    check_noise(noise)
    assert Ensemble(noise=noise).noise == noise


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (-0.1, "expected noise to be a finite number of 0 or more, got -0.1"),
        ((0.1, float("nan")), "expected noise to be a finite number of 0 or more, got nan"),
        ((0.1, 0.1, 0.1), r"expected noise to be a number, a pair \(x, y\), 'rule_of_thumb' or None"),
        ("rule", "expected noise to be a number, a pair"),
        (True, "expected noise to be a finite number of 0 or more, got True"),
    ],
)
def test_bad_settings(noise, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(noise=noise)


def drawn(noise, x=X, y=Y, support=REAL, members=10):
    """The noise alone, on x and y of each member."""
    values = [a.expand(members, *a.shape) for a in (x, y)]
    noisy = DataNoise(noise, (x, y), len(y), support)(values, (members, len(y)), torch.Generator().manual_seed(1))
    return [after - before for after, before in zip(noisy, values, strict=True)]


def test_noise_is_normal_with_its_share_of_the_spread_of_each_column():
    """Standard deviations within five standard errors, of 20,000 numbers; members have noise of their own."""
    on_x, on_y = drawn((0.2, 0.1))
    shares = torch.cat([on_x / X.std(0), (on_y / Y.std())[..., None]], -1)
    expected = torch.tensor([0.2, 0.2, 0.1])
    assert bool(((shares.flatten(0, 1).std(0) / expected - 1).abs() < 5 / 40_000**0.5).all())
    assert bool((shares.flatten(0, 1).mean(0).abs() < 5 * expected / 20_000**0.5).all())
    assert float((shares**4).mean() / (shares**2).mean((0, 1)).square().mean()) == pytest.approx(3, abs=0.2)
    assert abs(float(torch.corrcoef(on_y)[0, 1])) < 5 / 2000**0.5


def test_noise_does_not_depend_on_units():
    one, million = drawn(0.1), drawn(0.1, 1e-6 * X, 1e6 * Y)
    torch.testing.assert_close(million[0], 1e-6 * one[0], rtol=1e-3, atol=1e-11)
    torch.testing.assert_close(million[1], 1e6 * one[1], rtol=1e-3, atol=10)


def test_what_stays_as_it_is():
    groups, table = torch.arange(2000) % 3, torch.cat([X, torch.ones(2000, 1)], 1)
    noise = DataNoise((0.1, 0), (groups, table, None, Y), 2000, constraints.positive)
    (same, noisy, none, y) = noise([groups, table, None, Y], (), torch.Generator())
    assert same is groups
    assert none is None
    assert y is Y
    assert torch.equal(noisy[:, 2], table[:, 2])  # a column without spread
    assert not torch.equal(noisy, table)


def test_the_rule_counts_rows_and_columns():
    (on_x, _) = drawn("rule_of_thumb")
    assert float((on_x / X.std(0)).std()) == pytest.approx(2000 ** (-1 / 7), rel=0.03)
    with pytest.raises(ValueError, match="expected numbers for noise of arguments that are not tables"):
        DataNoise("rule_of_thumb", (torch.randn(2000, 3, 4), Y), 2000, REAL)


def test_noise_on_y_needs_a_density_on_the_real_line():
    with pytest.raises(ValueError, match=r"expected noise of 0 on y, .* got 0.1: set noise=\(0.1, 0\)"):
        DataNoise(0.1, (X, Y.exp()), 2000, constraints.positive)
    with pytest.raises(ValueError, match="expected noise of 0 on y"):
        DataNoise(0.1, (X, (Y > 0).long()), 2000, constraints.boolean)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))
    for support in (mixture.support, dist.Normal(torch.zeros(3), 1.0).to_event(1).support, constraints.real_vector):
        DataNoise(0.1, (X, Y), 2000, support)


LAYER = mlp(2, 1, seed=0)


def straight(x, y=None):
    features = point("net", LAYER)(x)
    noise = pyro.param("noise", torch.tensor(1.0), constraint=constraints.positive)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def test_least_squares_with_noise_is_ridge_regression():
    """Noise of variance h² on centred x adds h² to its covariance, and noise on y adds to the residual variance."""
    settings = Ensemble(
        members=2, steps=1500, learning_rate=0.02, final_rate=1e-3, noise=(0.5, 1.0), engine="replay", progress=False
    )
    fit = infer(straight, X - X.mean(0), Y, method=settings, seed=0)
    covariance, target = torch.cov(X.T, correction=0), torch.cov(torch.column_stack([X, Y]).T, correction=0)
    ridge = covariance + 0.25 * torch.diag(covariance.diag())
    slope = torch.linalg.solve(ridge, target[:2, 2])
    variance = 2 * target[2, 2] - slope @ target[:2, 2]
    torch.testing.assert_close(fit.draws["net.output.weight"][0, :, 0], slope.expand(2, 2), atol=0.02, rtol=0)
    torch.testing.assert_close(fit.draws["noise"][0], variance.sqrt().expand(2), atol=0, rtol=0.02)
    assert fit.attrs["tier"] == "replay"


@pytest.mark.parametrize("filler", [0.0, -999.0])
def test_values_of_masked_rows_do_not_count(filler):
    """Masked y may have any value, and their rows any x: the noise is that of the other rows."""
    there = torch.arange(2000) % 3 > 0
    x, y = torch.where(there[:, None], X, filler), torch.where(there, Y, filler)
    noise = DataNoise((0.1, 0.2), (x, y), 2000, REAL, there)
    torch.testing.assert_close(noise.scales[0], 0.1 * X[there].std(0, correction=0))
    torch.testing.assert_close(noise.scales[1], 0.2 * Y[there].std(correction=0))
    steps = torch.stack([Y, Y], 1)
    some = torch.stack([there, torch.ones(2000, dtype=torch.bool)], 1)
    noise = DataNoise((0.1, 0.2), (X, torch.where(some, steps, filler)), 2000, REAL, some)
    torch.testing.assert_close(noise.scales[0], 0.1 * X.std(0, correction=0))
    expected = torch.stack([Y[there].std(correction=0), Y.std(correction=0)])
    torch.testing.assert_close(noise.scales[1], 0.2 * expected)


def test_a_fit_with_noise_and_masked_rows_is_that_of_the_other_rows():
    """Least squares with noise of 0.3 on y: the standard deviation of y given x is that of 1334 rows, within 3 %."""
    there = torch.arange(2000) % 3 > 0

    def line(x, y=None):
        w = pyro.param("w", torch.zeros(2))
        s = pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, s).mask(there), obs=y)

    method = Ensemble(members=1, steps=400, noise=(0, 0.3), engine="replay", progress=False)
    found = infer(line, X, torch.where(there, Y, -999.0), method=method).draws["s"]
    expected = (0.3**2 + (0.3 * Y[there].std()) ** 2).sqrt()
    assert float(found) == pytest.approx(float(expected), rel=0.03)
