import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, Poisson, StudentT, VonMises

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import crps_normal_mixture
from posterity.inference.diagnostics.scoring.interval_score import interval_score
from posterity.models.mixtures import Mixture


def normals(loc: np.ndarray, scale: np.ndarray) -> Mixture:
    loc, scale = torch.tensor(loc)[:, None], torch.tensor(scale)[:, None]
    return Mixture.normal(torch.zeros_like(loc), loc, scale)


def two_peaks(n: int) -> Mixture:
    return Mixture.normal(torch.zeros(n, 2).double(), torch.tensor([-3.0, 3.0]).double(), torch.ones(n, 2).double())


def gaussian_predictions(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=n), rng.uniform(0.3, 2, n), rng.normal(0, 2, n)


def test_equals_scoringrules():
    scoringrules = pytest.importorskip("scoringrules")
    loc, scale, y = gaussian_predictions()
    levels = np.array([0.2, 0.5, 0.9])
    result = interval_score(normals(loc, scale), torch.tensor(y), levels=levels)
    lower, upper = (stats.norm.ppf(0.5 * (1 + sign * levels), loc[:, None], scale[:, None]) for sign in (-1, 1))
    expected = scoringrules.interval_score(y, lower, upper, 1 - levels)
    np.testing.assert_allclose(result.interval_score, expected.T, rtol=1e-9)
    # scoringrules 0.10 takes the median where the formula has its distance from y, so it is handed that.
    weighted = scoringrules.weighted_interval_score(y, np.abs(y - loc), lower, upper, 1 - levels)
    np.testing.assert_allclose(result.weighted_interval_score, weighted, rtol=1e-9)


def test_equals_uncertainty_toolbox():
    toolbox = pytest.importorskip("uncertainty_toolbox")
    loc, scale, y = gaussian_predictions()
    levels = np.linspace(0.01, 0.99, 99)
    result = interval_score(normals(loc, scale), torch.tensor(y), levels=levels)
    expected = toolbox.metrics_scoring_rule.interval_score(loc, scale, y)
    assert float(result.interval_score.mean()) == pytest.approx(expected, rel=1e-9)


def test_weighted_score_tends_to_the_crps():
    torch.manual_seed(0)
    mixture = two_peaks(50)
    y = mixture.sample()
    result = interval_score(mixture, y, levels=(np.arange(400) + 0.5) / 400)
    np.testing.assert_allclose(result.weighted_interval_score, crps_normal_mixture(mixture, y), rtol=0.01)


def test_of_draws_is_the_formula_at_their_quantiles():
    rng = np.random.default_rng(1)
    draws, y = rng.gamma(2, size=(500, 20)), rng.gamma(2, size=20)
    result = interval_score(draws, y, levels=[0.8])
    lower, upper = np.quantile(draws, [0.1, 0.9], axis=0)
    expected = upper - lower + 10 * np.maximum(lower - y, 0) + 10 * np.maximum(y - upper, 0)
    np.testing.assert_allclose(result.interval_score[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(result.covered[0], (y >= lower) & (y <= upper))


def test_arviz_data_keep_their_dimensions(tmp_path):
    rng = np.random.default_rng(2)
    draws, y, days = rng.normal(size=(2, 50, 3, 4)), rng.normal(size=(3, 4)), {"day": [3, 4, 5]}
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "day", "place"), draws)}, coords=days),
            "observed_data": xr.Dataset({"y": (("day", "place"), y)}, coords=days),
        }
    )
    result = interval_score(data)
    assert result.interval_score.dims == ("level", "day", "place")
    plain = interval_score(draws.reshape(100, 12), y.reshape(12))
    np.testing.assert_array_equal(result.interval_score.values.reshape(2, 12), plain.interval_score)
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")


def test_true_central_intervals_score_best():
    """Paired differences of more than five standard errors, at both levels, against each of four wrong models."""
    rng = np.random.default_rng(3)
    y = torch.tensor(rng.normal(size=4000))
    flat = np.ones(4000)
    truth = interval_score(normals(0 * flat, flat), y).interval_score
    for loc, scale in ((0.4, 1.0), (0.0, 0.7), (0.0, 1.5), (-0.3, 1.2)):
        difference = (truth - interval_score(normals(loc * flat, scale * flat), y).interval_score).values
        assert (difference.mean(1) < -5 * difference.std(1, ddof=1) / np.sqrt(4000)).all()


def test_highest_density_of_one_peak_is_the_central_interval():
    loc, scale, y = gaussian_predictions(12)
    mixture = normals(loc, scale)
    central, dense = (interval_score(mixture, torch.tensor(y), kind=kind) for kind in ("central", "hdi"))
    for name in ("interval_score", "length", "covered"):
        np.testing.assert_allclose(dense[name], central[name], rtol=1e-6)
    assert bool((dense.intervals == 1).all())


def test_disjoint_sets_by_hand():
    """Two peaks 6 sigma apart: at 0.8 each holds 40 % by itself, from -1.2816 to 1.2816 about its middle."""
    half = stats.norm.ppf(0.9)
    y = torch.tensor([3.0, 0.0, -3.0 - half - 0.5, 3.0 - half - 0.2]).double()
    result = interval_score(two_peaks(4), y, levels=[0.8], kind="hdi").isel(level=0)
    # Beyond the valley, where the other peak has 0.1 % of its mass, the ends move by a few thousandths.
    np.testing.assert_allclose(result.length, 4 * half, atol=5e-3)
    expected = [0.0, 10 * (3 - half), 10 * 0.5, 10 * 0.2]
    np.testing.assert_allclose(result.interval_score - result.length, expected, atol=0.03)
    assert result.covered.values.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert bool((result.intervals == 2).all())


def test_highest_density_is_not_proper_as_the_module_says():
    """Of skewed truth, its own central interval scores better than its own region of highest density."""
    rng = np.random.default_rng(4)
    n = 20
    loc, scale = torch.tensor([0.0, 2.0, 5.0]).double(), torch.tensor([0.5, 1.5, 3.0]).double()
    logits = torch.tensor([0.6, 0.3, 0.1]).double().log()
    one = Mixture.normal(logits.expand(1, 3), loc.expand(1, 3), scale.expand(1, 3))
    region = one.hdr(0.8)
    assert int(region.count) == 1
    y = one.icdf(torch.tensor((np.arange(n * 500) + rng.random(n * 500)) / (n * 500))[:, None])[:, 0].numpy()
    ends = {"hdi": (float(region.lower[0, 0]), float(region.upper[0, 0]))}
    ends["central"] = tuple(float(one.icdf(torch.tensor([q]).double())[0]) for q in (0.1, 0.9))
    mean = {
        kind: (upper - lower) + 10 * float(np.mean(np.maximum(np.maximum(lower - y, y - upper), 0)))
        for kind, (lower, upper) in ends.items()
    }
    assert mean["central"] < mean["hdi"] - 0.1


def test_other_families_are_those_of_the_mixture():
    mixture = Mixture(Categorical(logits=torch.zeros(3, 1)), StudentT(torch.full((3, 1), 4.0).double()))
    result = interval_score(mixture, torch.zeros(3), levels=[0.9])
    np.testing.assert_allclose(result.length, 2 * stats.t.ppf(0.95, 4), rtol=1e-6)
    counts = Mixture(Categorical(logits=torch.zeros(1, 1)), Poisson(torch.full((1, 1), 4.0).double()))
    score = interval_score(counts, torch.tensor([9.0]), levels=[0.8]).interval_score
    assert score.item() == pytest.approx(7 - 2 + 10 * 2, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": [0.5, 1.0]}, r"expected levels to be numbers in \(0, 1\), got \[0.5, 1.0\]"),
        ({"levels": []}, r"expected levels to be numbers in \(0, 1\)"),
        ({"levels": [0.5, 0.5]}, "expected levels to be different"),
        ({"kind": "shortest"}, "expected kind to be one of 'central', 'hdi', got 'shortest'"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        interval_score(two_peaks(3), torch.zeros(3), **arguments)


def test_what_has_no_such_intervals_is_refused():
    with pytest.raises(ValueError, match="expected a Mixture for kind='hdi', got draws"):
        interval_score(np.zeros((5, 3)), np.zeros(3), kind="hdi")
    angles = Mixture(Categorical(logits=torch.zeros(2, 1)), VonMises(torch.zeros(2, 1), torch.ones(2, 1)))
    with pytest.raises(ValueError, match="expected a target on a line, got angles"):
        interval_score(angles, torch.zeros(2))
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "level"), np.zeros((1, 5, 3)))}),
            "observed_data": xr.Dataset({"y": ("level", np.zeros(3))}),
        }
    )
    with pytest.raises(ValueError, match="expected observations without a dimension or coordinate 'level'"):
        interval_score(data)


def test_a_single_draw_has_no_interval():
    with pytest.raises(ValueError, match="expected at least 2 posterior-predictive draws, got 1"):
        interval_score(np.zeros((1, 5)), np.zeros(5))
