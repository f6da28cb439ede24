"""Tests of uniformity: each has its level, is another library's where there is one, and sees what it says it sees."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import ndtri

from posterity.inference.diagnostics import uniformity_test
from posterity.inference.diagnostics.calibration.uniformity import TESTS, anderson_darling_sf, cauchy_combination


def values(u, **attrs):
    return xr.Dataset({"pit": ("obs", np.asarray(u))}, attrs=attrs)


def test_a_uniform_sample_is_rejected_as_often_as_it_should():
    """600 repetitions of 300 values: 5 % at the 5 % level, within 3 standard errors (seed 4)."""
    rng = np.random.default_rng(4)
    p = np.array([uniformity_test(values(rng.random(300)), TESTS).p_value.values for _ in range(600)])
    for level in (0.05, 0.5):
        assert (np.abs((p < level).mean(0) - level) < 3 * np.sqrt(level * (1 - level) / 600)).all()


@pytest.mark.parametrize("n", [10, 50, 1000])
def test_pot_c_of_independent_values_has_its_level_for_any_number_of_them(n):
    """2,000 repetitions: within 3 standard errors (seed 8); as published it rejects 6.2 to 6.8 % at 5 %."""
    rng = np.random.default_rng(8)
    p = np.array([float(uniformity_test(values(rng.random(n)), "pot_c").p_value) for _ in range(2000)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert abs((p < level).mean() - level) < 3 * np.sqrt(level * (1 - level) / 2000)


def test_pot_c_of_dependent_values_is_as_published():
    """By hand: mean of tan(pi (1/2 - p)) over p < 1/2, of beta distributions."""
    u = np.sort(np.random.default_rng(9).beta(1.3, 1.0, 60))
    rank = np.arange(1, 61)
    lower = stats.beta(rank, 61 - rank).cdf(u)
    each = 2 * np.minimum(lower, 1 - lower)
    expected = stats.cauchy.sf(np.where(each < 0.5, np.tan(np.pi * (0.5 - each)), 0.0).mean())
    found = uniformity_test(values(u, dependent=1), "pot_c")
    assert float(found.p_value) == pytest.approx(expected, rel=1e-9)
    assert expected < float(uniformity_test(values(u), "pot_c").p_value) < 2 * expected


def test_kolmogorov_smirnov_and_chi2_are_those_of_scipy():
    u = np.random.default_rng(0).beta(1.2, 1, 200)
    assert float(uniformity_test(values(u)).p_value) == stats.kstest(u, "uniform").pvalue
    expected = stats.chisquare(np.histogram(u, 10, (0, 1))[0])
    found = uniformity_test(values(u), "chi2", bins=10)
    assert (float(found.statistic), float(found.p_value)) == (expected.statistic, expected.pvalue)


@pytest.mark.parametrize("n", [10, 300])
def test_anderson_darling_is_that_of_known_parameters(n):
    """Against scipy's goodness of fit with nothing fitted, by 2,000 simulations: 4 standard errors (seed 1)."""
    u = np.random.default_rng(n).beta(1.3, 1, n)
    known = {"known_params": {"loc": 0, "scale": 1}, "n_mc_samples": 2000, "statistic": "ad"}
    expected = stats.goodness_of_fit(stats.uniform, u, **known, rng=np.random.default_rng(1))
    found = uniformity_test(values(u), "ad")
    assert float(found.statistic) == pytest.approx(expected.statistic, rel=1e-9)
    error = np.sqrt(expected.pvalue * (1 - expected.pvalue) / 2000)
    assert abs(float(found.p_value) - expected.pvalue) < 4 * error + 1e-3


@pytest.mark.parametrize(("z", "p"), [(1.9329, 0.10), (2.4924, 0.05), (3.8781, 0.01), (5.9694, 0.001)])
def test_anderson_darling_has_its_critical_values(z, p):
    """Of infinitely many values: Marsaglia & Marsaglia 2004; Stephens 1974, table 1A."""
    assert anderson_darling_sf(z, 10**9) == pytest.approx(p, rel=0.01)


def test_anderson_darling_is_continuous_and_has_a_tail():
    assert anderson_darling_sf(8.01, 1000) == pytest.approx(anderson_darling_sf(7.99, 1000), rel=0.08)
    assert 0 < anderson_darling_sf(100.0, 300) < 1e-40


def test_far_values_are_told_from_the_farthest():
    """By both tails: 12 standard deviations out, u itself is 1."""
    z = np.r_[ndtri((np.arange(99) + 0.5) / 99), 12.0]
    both = xr.Dataset({"pit": ("obs", stats.norm.cdf(z)), "pit_sf": ("obs", stats.norm.sf(z))})
    one = both[["pit"]]
    for test in ("ad", "berkowitz"):
        found = [float(uniformity_test(data, test).statistic) for data in (both, one)]
        assert np.isfinite(found).all()
    assert float(uniformity_test(both, "berkowitz").p_value) < 1e-8


def test_berkowitz_is_the_likelihood_ratio():
    """Against a search over all three parameters, of a correlated sample."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(2)
    z = rng.normal(size=80)
    z[1:] += 0.4 * z[:-1]

    def loss(parameters):
        mean, log_sd, rho = parameters[0], parameters[1], np.tanh(parameters[2])
        sd = np.exp(log_sd)
        first = stats.norm.logpdf(z[0], mean, sd / np.sqrt(1 - rho**2))
        return -first - stats.norm.logpdf(z[1:], mean + rho * (z[:-1] - mean), sd).sum()

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8})
    expected = 2 * (-best.fun - stats.norm.logpdf(z).sum())
    found = uniformity_test(values(stats.norm.cdf(z)), "berkowitz")
    assert float(found.statistic) == pytest.approx(expected, abs=1e-5)
    assert float(found.p_value) == pytest.approx(stats.chi2.sf(expected, 3), rel=1e-4)


def test_equal_values_are_as_far_from_uniform_as_can_be():
    found = uniformity_test(values(np.full(20, 0.5)), "berkowitz")
    assert (float(found.statistic), float(found.p_value)) == (np.inf, 0.0)


def test_each_sees_what_it_says_it_sees():
    n = 1000
    grid = (np.arange(n) + 0.5) / n
    mixed = np.random.default_rng(3).permutation(n)
    shifted = stats.norm.cdf(ndtri(grid) + 0.2)[mixed]
    narrow = stats.norm.cdf(1.2 * ndtri(grid))[mixed]
    heap = np.where((grid > 0.4) & (grid < 0.5), 0.45, grid)[mixed]
    outlier = np.r_[grid, 1e-9][np.random.default_rng(5).permutation(n + 1)]
    seen = {
        name: {test for test in TESTS if float(uniformity_test(values(u), test).p_value) < 0.01}
        for name, u in {"shifted": shifted, "narrow": narrow, "heap": heap, "outlier": outlier}.items()
    }
    assert seen["shifted"] >= {"ks", "ad", "berkowitz", "pot_c"}
    assert seen["narrow"] >= {"ad", "berkowitz", "pot_c"}
    assert "chi2" in seen["heap"]
    assert "berkowitz" not in seen["heap"]
    assert seen["outlier"] == {"pot_c"}


def test_pot_c_takes_dependent_values_and_the_others_are_refused_there():
    """Values of exchangeable residuals whose mean is taken off, as of leave-one-out: not more than 7 % (seed 6)."""
    rng = np.random.default_rng(6)
    rejected = 0
    for _ in range(500):
        z = rng.normal(size=50)
        z = (z - z.mean()) * np.sqrt(50 / 49)
        rejected += float(uniformity_test(values(stats.norm.cdf(z), dependent=1), "pot_c").p_value) < 0.05
    assert rejected / 500 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 500)
    with pytest.raises(ValueError, match="expected test 'pot_c' for values that depend on each other"):
        uniformity_test(values(np.full(20, 0.5), dependent=1), ["pot_c", "ks"])


def test_cauchy_combination_of_one_and_of_equal_values_is_the_value():
    for p in (1e-20, 1e-9, 1e-3, 0.3):
        assert cauchy_combination(np.array([p]))[1] == pytest.approx(p, rel=1e-6)
        assert cauchy_combination(np.full(7, p))[1] == pytest.approx(p, rel=1e-6)


def test_one_sure_p_value_does_not_erase_the_others():
    """A value just where it should be has p = 1; counted in full it would outweigh everything."""
    assert cauchy_combination(np.array([1e-10, 1.0]))[1] == pytest.approx(2e-10, rel=1e-6)
    heaps = np.r_[np.linspace(0.01, 0.02, 10), 0.5, 1 - np.linspace(0.01, 0.02, 10)]
    assert float(uniformity_test(values(heaps), "pot_c").p_value) < 1e-8
    assert cauchy_combination(np.ones(5))[1] == 0.5


def test_several_at_once_are_each_by_itself():
    data = values(np.random.default_rng(7).random(100))
    together = uniformity_test(data, TESTS)
    assert together.test.values.tolist() == list(TESTS)
    for test in TESTS:
        assert float(together.p_value.sel(test=test)) == float(uniformity_test(data, test).p_value)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (values(np.full(20, 0.5)), {"test": "cramer"}, "expected test to be one or more of ks, ad, .* got .'cramer'."),
        (values(np.full(20, 0.5)), {"test": []}, "expected test to be one or more of"),
        (values(np.full(5, 0.5)), {}, "expected at least 10 values for a test of uniformity, got 5"),
        (values(np.full(12, 0.5)), {"test": "berkowitz"}, "expected at least 20 values for Berkowitz's test, got 12"),
        (values(np.full(20, 1.5)), {}, r"expected at least one pit, all in \[0, 1\]"),
        (values(np.r_[np.nan, np.full(20, 0.5)]), {}, "expected finite pit, got 1 of 21"),
        (values(np.full(20, 0.5)), {"test": "chi2", "bins": 5}, "expected from 2 to 4 bins for 20 values, got 5"),
        (values(np.full(20, 0.5)), {"test": "chi2", "bins": 2.5}, "expected bins to be a whole number, got 2.5"),
        (xr.Dataset({"u": ("obs", [0.5])}), {}, r"expected a result of pit\(\), with pit, got"),
        ("pit", {}, r"expected a result of pit\(\), with pit, got str"),
    ],
)
def test_bad_input_is_refused(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        uniformity_test(data, **arguments)
