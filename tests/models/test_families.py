"""Distribution functions of families that torch has none for, alone and inside mixtures."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from posterity.inference.diagnostics import coverage, pit, pulls
from posterity.inference.predictive import PredictiveMixture
from posterity.models import Mixture, tails


def double(*values):
    return torch.tensor(values, dtype=torch.double)


COUNTS = {
    "Bernoulli": (dist.Bernoulli(double(0.3)), stats.bernoulli(0.3)),
    "Binomial": (dist.Binomial(7, double(0.3)), stats.binom(7, 0.3)),
    "Geometric": (dist.Geometric(double(0.3)), stats.geom(0.3, loc=-1)),
    "NegativeBinomial": (dist.NegativeBinomial(double(2.5), double(0.4)), stats.nbinom(2.5, 0.6)),
    "Poisson": (dist.Poisson(double(3.2)), stats.poisson(3.2)),
}
LINES = {
    "Beta": (dist.Beta(double(2.0), double(0.7)), stats.beta(2.0, 0.7)),
    "Gamma": (dist.Gamma(double(2.0), double(4.0)), stats.gamma(2.0, scale=0.25)),
}
LEVELS = np.array([1e-6, 0.05, 0.3, 0.5, 0.71, 0.95, 1 - 1e-9])


@pytest.mark.parametrize("family", COUNTS)
def test_functions_of_counts_are_scipys(family):
    distribution, reference = COUNTS[family]
    y = np.array([-1.0, 0.0, 0.5, 1.0, 3.0, 6.0])
    np.testing.assert_allclose(tails.cdf(distribution, torch.tensor(y)), reference.cdf(y), rtol=1e-12)
    np.testing.assert_allclose(tails.sf(distribution, torch.tensor(y)), reference.sf(y), rtol=1e-9)
    np.testing.assert_array_equal(tails.icdf(distribution, torch.tensor(LEVELS)), reference.ppf(LEVELS))


@pytest.mark.parametrize("family", LINES)
def test_functions_of_lines_are_scipys(family):
    distribution, reference = LINES[family]
    y = np.linspace(0.001, 0.999, 7)
    np.testing.assert_allclose(tails.cdf(distribution, torch.tensor(y)), reference.cdf(y), rtol=1e-9)
    np.testing.assert_allclose(tails.sf(distribution, torch.tensor(y)), reference.sf(y), rtol=1e-9)
    np.testing.assert_allclose(tails.icdf(distribution, torch.tensor(LEVELS)), reference.ppf(LEVELS), rtol=1e-7)


def test_a_family_without_a_distribution_function_is_named():
    mixture = Mixture(dist.Categorical(torch.ones(3, 2)), dist.Categorical(torch.ones(3, 2, 4)))
    for call in (lambda: mixture.cdf(torch.zeros(3)), lambda: mixture.icdf(0.5)):
        with pytest.raises(ValueError, match=r"expected a family with a \w+ function, got Categorical"):
            call()


def mixture_of(family, rows=400):
    """Two draws of one component each, and observations of it."""
    generator = torch.Generator().manual_seed(5)
    p = 0.2 + 0.6 * torch.rand(2, rows, generator=generator, dtype=torch.double)
    make = {
        "Bernoulli": lambda: dist.Bernoulli(p),
        "Binomial": lambda: dist.Binomial(6, p),
        "Geometric": lambda: dist.Geometric(p),
        "NegativeBinomial": lambda: dist.NegativeBinomial(3.0, p),
        "Poisson": lambda: dist.Poisson(5 * p),
        "Beta": lambda: dist.Beta(3 * p, 2.0),
        "Gamma": lambda: dist.Gamma(3 * p, 2.0),
    }[family]
    predictive = PredictiveMixture.from_draws(make())
    torch.manual_seed(6)
    return predictive, predictive.sample()


@pytest.mark.parametrize("family", [*COUNTS, *LINES])
def test_pit_pulls_and_coverage_of_a_calibrated_mixture(family):
    """400 observations: Kolmogorov-Smirnov above 1e-3, coverage within 4 standard errors."""
    predictive, y = mixture_of(family)
    assert stats.kstest(pit(predictive, y).pit, "uniform").pvalue > 1e-3
    assert abs(float(pulls(predictive, y).pull.std()) - 1) < 4 / 800**0.5
    inside = coverage(predictive, y, levels=[0.5, 0.8])
    # Counts cover at least what they promise.
    lower = np.array([0.5, 0.8]) - 4 * (np.array([0.25, 0.16]) / 400) ** 0.5
    assert (inside.coverage.values > lower).all()
    assert torch.isfinite(predictive.icdf([0.05, 0.95])).all()


@pytest.mark.parametrize("family", COUNTS)
def test_quantiles_of_a_mixture_of_counts_are_the_smallest_that_reach(family):
    predictive, _ = mixture_of(family, rows=8)
    levels = double(0.05, 0.5, 0.9)
    found = predictive.icdf(levels.tolist())
    assert bool((predictive.cdf(found) >= levels[:, None]).all())
    assert bool((predictive.cdf(found - 1) < levels[:, None]).all())


def test_the_region_of_a_bernoulli_holds_what_it_says():
    mixture = Mixture(dist.Categorical(torch.ones(2, 1).double()), dist.Bernoulli(double([0.9], [0.4])))
    region = mixture.hdr(0.7)
    assert region.lower[:, 0].tolist() == [1.0, 0.0]
    assert region.upper[:, 0].tolist() == [1.0, 1.0]
    torch.testing.assert_close(region.probability, double(0.9, 1.0))
    assert mixture.modes().location[:, 0].tolist() == [1.0, 0.0]


def test_binomials_of_different_totals_share_a_mixture():
    """At 5 the first component, of three trials, has no mass."""
    mixture = Mixture(
        dist.Categorical(torch.ones(1, 2).double()), dist.Binomial(double([3.0, 6.0]), double([0.9, 0.9]))
    )
    assert mixture.modes().location[0].tolist()[:1] == [3.0]
    expected = 0.5 * stats.binom(3, 0.9).pmf(3) + 0.5 * stats.binom(6, 0.9).pmf(3)
    assert float(mixture.modes().log_density[0, 0].exp()) == pytest.approx(expected)


N = 5
BATCH = Mixture.normal(torch.zeros(N, 1), torch.arange(N).double()[:, None], torch.ones(N, 1, dtype=torch.double))


@pytest.mark.parametrize("levels", [[0.05, 0.95], (0.05, 0.95), np.array([0.05, 0.95]), double(0.05, 0.95)])
def test_a_list_of_levels_gives_a_quantile_of_each_for_every_row(levels):
    found = BATCH.icdf(levels)
    assert found.shape == (2, N)
    np.testing.assert_allclose(found, stats.norm.ppf([[0.05], [0.95]]) + np.arange(N), rtol=1e-12)


def test_as_many_levels_as_rows_are_levels_in_a_list_and_one_for_each_row_in_a_tensor():
    levels = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert BATCH.icdf(levels).shape == (N, N)
    assert BATCH.icdf(torch.tensor(levels)).shape == (N,)
    assert BATCH.icdf(torch.tensor(levels)[:, None]).shape == (N, N)
    assert BATCH.icdf(0.5).shape == (N,)


@pytest.mark.parametrize("function", ["cdf", "sf", "responsibilities"])
def test_a_value_of_another_shape_is_named(function):
    with pytest.raises(ValueError, match=r"expected value to broadcast with shape \(5,\), got shape \(3,\)"):
        getattr(BATCH, function)(torch.zeros(3))
