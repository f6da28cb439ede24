import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import coverage, pit, region_level
from posterity.models.mixtures import Mixture


def bimodal(n: int, width: float = 1.0) -> Mixture:
    loc, scale = torch.tensor([-2.0, 2.0]).double(), torch.tensor([0.5, 1.0]).double()
    return Mixture.normal(torch.zeros(n, 2).double(), loc, width * scale)


def normal(n: int) -> Mixture:
    return Mixture.normal(torch.zeros(n, 1).double(), torch.zeros(n, 1).double(), torch.ones(n, 1).double())


def test_central_coverage_of_quantiles_is_exact():
    y = bimodal(200).icdf((torch.arange(200).double() + 0.5) / 200)
    result = coverage(bimodal(200), y, levels=[0.1, 0.5, 0.9])
    np.testing.assert_allclose(result.coverage, [0.1, 0.5, 0.9], atol=1e-12)


def test_limits_are_those_of_the_exact_binomial_test():
    y = torch.cat([torch.zeros(7), torch.full((13,), 100.0)])
    result = coverage(normal(20), y, levels=[0.3, 0.99], confidence=0.9)
    for share, lower, upper in zip(result.coverage, result.lower, result.upper, strict=True):
        exact = stats.binomtest(round(20 * float(share)), 20).proportion_ci(0.9, method="exact")
        assert (float(lower), float(upper)) == pytest.approx((exact.low, exact.high), rel=1e-10)


@pytest.mark.parametrize(("place", "low", "high"), [(0.0, 0.025 ** (1 / 20), 1.0), (100.0, 0.0, 1 - 0.025 ** (1 / 20))])
def test_limits_where_all_or_none_are_inside(place, low, high):
    result = coverage(normal(20), torch.full((20,), place), levels=[0.5])
    assert (float(result.lower[0]), float(result.upper[0])) == pytest.approx((low, high))


@pytest.mark.parametrize("kind", ["central", "hdi"])
def test_levels_of_own_data_are_uniform(kind):
    """8,000 rows: the narrow one's 0.66 is then 8 standard errors from 0.7."""
    torch.manual_seed(1)
    y = bimodal(8000).sample()
    levels = region_level(bimodal(8000), y, kind=kind, draws=99).level
    assert stats.kstest(levels.values, "uniform").pvalue > 1e-3
    narrow = coverage(bimodal(8000, width=0.8), y, kind=kind, levels=[0.7], draws=99)
    assert float(narrow.upper[0]) < 0.7


def test_hdi_level_of_a_normal_is_the_central_one():
    y = torch.tensor([0.0, 0.5, -1.0, 2.0])
    found = region_level(normal(4), y, kind="hdi", draws=20_000).level.values
    exact = region_level(normal(4), y).level.values
    np.testing.assert_allclose(exact, 2 * stats.norm.cdf(np.abs(y.numpy())) - 1, atol=1e-12)
    np.testing.assert_allclose(found, exact, atol=4 * 0.5 / np.sqrt(20_000))


def test_gap_between_two_peaks_is_central_but_not_of_high_density():
    gap = torch.tensor([0.0])
    mixture = Mixture.normal(torch.zeros(1, 2), torch.tensor([-3.0, 3.0]), torch.ones(1, 2))
    assert float(region_level(mixture, gap).level[0]) < 1e-6
    assert float(region_level(mixture, gap, kind="hdi").level[0]) > 0.95


def test_hdi_does_not_depend_on_blocks_in_distribution(monkeypatch):
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 8)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.mixture.CHUNK", 400)
    y = torch.linspace(-3, 3, 20)
    levels = region_level(normal(20), y, kind="hdi", draws=999).level.values
    np.testing.assert_allclose(levels, region_level(normal(20), y).level.values, atol=0.07)


def test_arviz_draws_agree_with_the_mixture(tmp_path):
    torch.manual_seed(2)
    y = bimodal(100).sample()
    draws = bimodal(100).sample(torch.Size([4000])).numpy().reshape(2, 2000, 100)
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs"), draws)}),
            "observed_data": xr.Dataset({"y": ("obs", y.numpy())}),
        }
    )
    difference = region_level(data).level - region_level(bimodal(100), y).level
    assert float(np.abs(difference).max()) < 4.5 * np.sqrt(1 / 4000)
    coverage(data).to_netcdf(tmp_path / "coverage.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="expected a Mixture for kind='hdi', got draws"):
        coverage(data, kind="hdi")


def test_same_seed_same_levels():
    y = torch.linspace(-3, 3, 50)
    first, again, other = (region_level(normal(50), y, kind="hdi", seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not first.level.equals(other.level)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": [0.5, 1.0]}, r"expected levels to be numbers in \(0, 1\), got \[0.5, 1.0\]"),
        ({"levels": []}, r"expected levels to be numbers in \(0, 1\)"),
        ({"confidence": 0.0}, r"expected confidence to be a number in \(0, 1\), got 0.0"),
        ({"kind": "shortest"}, "expected kind to be one of 'central', 'hdi', got 'shortest'"),
        ({"kind": "hdi", "draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        coverage(normal(3), torch.zeros(3), **arguments)


def test_pit_and_coverage_equal_uncertainty_toolbox():
    """Of normal predictives: its observed proportions are the coverage, and the distribution function of the PIT."""
    toolbox = pytest.importorskip("uncertainty_toolbox").metrics_calibration
    rng = np.random.default_rng(0)
    mean, sd, y = rng.normal(size=500), rng.uniform(0.5, 2, 500), 1.4 * rng.normal(size=500)
    model = Mixture.normal(torch.zeros(500, 1).double(), torch.tensor(mean)[:, None], torch.tensor(sd)[:, None])
    levels, observed = toolbox.get_proportion_lists_vectorized(mean, sd, y, num_bins=20, prop_type="interval")
    inner = slice(1, -1)  # at 0 and 1 there is nothing to count
    found = coverage(model, torch.tensor(y), levels=levels[inner])
    np.testing.assert_array_equal(found.coverage, observed[inner])
    levels, observed = toolbox.get_proportion_lists_vectorized(mean, sd, y, num_bins=20, prop_type="quantile")
    values = pit(model, torch.tensor(y)).pit_sf.values  # its residuals are predictions less observations
    np.testing.assert_array_equal((values[:, None] <= levels[inner]).mean(0), observed[inner])


def test_a_level_on_the_border_is_covered():
    """Regions are closed: y on the border of the region of level 0.5 is inside that region."""
    levels = xr.Dataset({"level": ("obs", [0.25, 0.5, 0.75, 1.0])})
    assert coverage(levels, levels=[0.25, 0.5, 0.6]).coverage.values.tolist() == [0.25, 0.5, 0.5]


def test_levels_of_three_draws_are_uniform_too():
    """Ranks among few draws, shared evenly within their steps: a Kolmogorov-Smirnov test of 4,000, p above 1e-4."""
    torch.manual_seed(0)
    mixture = Mixture.normal(torch.zeros(4000, 2), torch.tensor([-1.0, 1.0]), torch.tensor(0.5))
    levels = region_level(mixture, mixture.sample(), kind="hdi", draws=3, seed=1).level.values
    assert stats.kstest(levels, "uniform").pvalue > 1e-4
