"""Where trajectories diverged, on functions whose place is known."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.sampling.divergences import locate_divergences
from tests.inference.diagnostics.sampling.cases import (
    HIT,
    autoregressive,
    funnel,
    independent,
)


def test_divergences_of_a_funnel_are_in_its_neck():
    values, diverging = funnel(0)
    found = locate_divergences(torch.as_tensor(values), torch.as_tensor(diverging))
    rest = values[~diverging]
    shift = (values[diverging].mean(0) - rest.mean(0)) / rest.std(0)
    np.testing.assert_allclose(found["shift"], shift, rtol=1e-10)
    np.testing.assert_allclose(found.spread, values[diverging].std(0, ddof=1) / rest.std(0), rtol=1e-10)
    assert found["shift"][0] < -1.5
    assert abs(found["shift"][1]) < 0.2  # theta is symmetric: only its spread tells
    assert found.spread[1] < 0.1
    assert found.location[0] < -10
    assert abs(found.location[1]) < 3
    assert found.scale[1] < -4
    assert found.strength[2] < 4
    assert found.sortby("strength", ascending=False)["quantile"][0] < 0.1
    assert float(found.p_value) == 1 / 4000
    assert found.attrs == {"chains": 4, "draws": 1000, "divergences": int(diverging.sum()), "share": diverging.mean()}


def test_divergences_anywhere_are_found_nowhere():
    """Bursts that have nothing to do with slow chains: 5 % of the p-values are below 0.05, as for a right test.

    150 repetitions: 1 to 14, to 3 standard deviations. A test for independent draws (Mann-Whitney, at the best of 3
    functions, times 3) rejects most. Seed 2.
    """
    rng, found, naive = np.random.default_rng(2), [], []
    for _ in range(150):
        values, other = autoregressive(rng, 0.95, (4, 300, 3)), autoregressive(rng, 0.95, (4, 300))
        hit = other > np.quantile(other, 0.95)
        found.append(float(locate_divergences(values, hit).p_value))
        best = min(stats.mannwhitneyu(values[..., i][hit], values[..., i][~hit]).pvalue for i in range(3))
        naive.append(3 * best)
    assert 1 <= (np.array(found) < 0.05).sum() <= 15
    assert (np.array(naive) < 0.05).mean() > 0.5


def test_all_shifts_are_the_sums_written_out():
    rng = np.random.default_rng(0)
    values, hit = rng.normal(size=(3, 5, 1)), rng.random((3, 5)) < 0.3
    places = (stats.rankdata(values).reshape(3, 5) - 0.5) / 15 - 0.5
    sums = np.array([places[np.roll(hit, (c, d), (0, 1))].sum() for c in range(3) for d in range(5)])
    found = locate_divergences(values, hit)
    assert float(found.location[0]) == pytest.approx(sums[0] / sums.std(), rel=1e-10)
    squares = (places**2).ravel()
    spread = np.array([squares[np.roll(hit, (c, d), (0, 1)).ravel()].sum() for c in range(3) for d in range(5)])
    assert float(found.scale[0]) == pytest.approx((spread[0] - spread.mean()) / spread.std(), rel=1e-9)
    strength = np.maximum(abs(sums) / sums.std(), abs(spread - spread.mean()) / spread.std())
    assert float(found.p_value) == pytest.approx((strength >= strength[0] - 1e-9).mean())


def test_one_divergence_has_a_place_and_no_spread(tmp_path):
    values = independent(0, draws=100)
    hit = np.zeros((4, 100), bool)
    hit[np.unravel_index(values[..., 2].argmin(), hit.shape)] = True
    found = locate_divergences(values, hit)
    assert int(found.strength.values.argmax()) == 2
    assert float(found["quantile"][2]) == pytest.approx(0.5 / 400)
    assert bool(found.spread.isnull().all())
    found.to_netcdf(tmp_path / "divergences.nc", engine="h5netcdf")


def test_divergences_are_the_same_in_blocks(monkeypatch):
    values, diverging = funnel(0)
    found = locate_divergences(values, diverging)
    monkeypatch.setattr("posterity.inference.diagnostics.sampling.divergences.CHUNK", 4000)
    xr.testing.assert_allclose(locate_divergences(values, diverging), found)


def test_divergences_of_arviz_data_are_read_by_the_names_of_their_dimensions():
    values, diverging = funnel(0)
    array = xr.DataArray(values, dims=("chain", "draw", "p")).transpose("p", "draw", "chain")
    hit = xr.DataArray(diverging, dims=("chain", "draw"))
    expected = locate_divergences(values, diverging)
    for given in (diverging, hit, hit.T):
        xr.testing.assert_identical(locate_divergences(array, given), expected)


@pytest.mark.parametrize(
    ("values", "diverging", "message"),
    [
        (np.zeros((2, 10)), HIT, r"expected values of shape \(chain, draw, points\), got \(2, 10\)"),
        (np.zeros((2, 10, 1)), HIT[:1], r"expected diverging of shape \(2, 10\), \(chain, draw\), got \(1, 10\)"),
        (np.full((2, 10, 1), np.nan), HIT, "expected finite values, got 20 of 20"),
        (np.zeros((2, 10, 1)), 2 * HIT, "expected diverging to be true or false"),
        (np.zeros((2, 10, 1)), 0 * HIT, "expected some draws that diverged, and others, got 0 of 20"),
        (np.zeros((2, 10, 1)), HIT | True, "expected some draws that diverged, and others, got 20 of 20"),
        (np.zeros((2, 10, 1)), HIT, "expected values that differ between draws, got 1 points"),
        (np.zeros((2, 10, 1), complex), HIT, "expected real numbers as values, got complex128"),
        (np.ma.masked_all((2, 10, 1)), HIT, "expected values without a mask"),
        (np.zeros((2, 10, 1)), HIT.astype(str), "expected real numbers as diverging, got <U5"),
        (np.zeros((2, 10, 1)), np.ma.masked_array(HIT), "expected diverging without a mask"),
        (xr.DataArray(np.zeros((2, 10, 1)), dims=("c", "d", "p")), HIT, "expected values as a DataArray with the dim"),
        (np.zeros((2, 10, 1)), xr.DataArray(HIT, dims=("c", "d")), "expected diverging as a DataArray with the dim"),
    ],
)
def test_bad_divergences_are_refused(values, diverging, message):
    with pytest.raises(ValueError, match=message):
        locate_divergences(values, diverging)
