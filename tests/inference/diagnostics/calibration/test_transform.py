import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, LogNormal, Poisson

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import pit, uniformity_test
from posterity.models.mixtures import Mixture
from tests.inference.diagnostics.cases import arviz_data, bimodal

LOGNORMAL = Mixture(Categorical(logits=torch.zeros(3, 1)), LogNormal(torch.zeros(3, 1), torch.ones(3, 1)))


def test_values_equal_the_normal_distribution_function():
    loc, y = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([0.3, -1.0, 2.0]).double()
    result = pit(Mixture.normal(torch.zeros(3, 1), loc[:, None], torch.full((3, 1), 2.0).double()), y)
    np.testing.assert_allclose(result.pit, stats.norm.cdf(y, loc, 2.0), rtol=1e-12)
    np.testing.assert_allclose(result.pit_sf, stats.norm.sf(y, loc, 2.0), rtol=1e-12)
    assert result.pit.dims == ("obs",)


def test_upper_tail_does_not_saturate():
    result = pit(Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1)), torch.tensor([12.0]))
    assert float(result.pit[0]) == 1.0
    np.testing.assert_allclose(result.pit_sf, stats.norm.sf(12.0), rtol=1e-10)


def test_own_data_are_uniform_and_a_narrow_model_is_found_out():
    torch.manual_seed(1)
    y = bimodal(4000).sample()
    assert float(uniformity_test(pit(bimodal(4000), y)).p_value) > 1e-3
    assert float(uniformity_test(pit(bimodal(4000, width=0.8), y)).p_value) < 1e-3


def test_blocks_of_rows_do_not_change_the_result(monkeypatch):
    y = bimodal(37).mean
    whole = pit(bimodal(37), y)
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 20)
    xr.testing.assert_identical(pit(bimodal(37), y), whole)


def test_arviz_ranks_agree_with_the_mixture():
    torch.manual_seed(2)
    mixture = bimodal(50)
    y = mixture.sample()
    draws = mixture.sample(torch.Size([4000])).numpy()
    exact, ranked = pit(mixture, y).pit.values, pit(arviz_data(draws, y.numpy()))
    error = np.sqrt(exact * (1 - exact) / 4000) + 1 / 4000
    assert np.abs((ranked.pit.values - exact) / error).max() < 4.5
    np.testing.assert_allclose(ranked.pit + ranked.pit_sf, 1.0, rtol=1e-12)
    assert ranked.pit.dims == ("dim_0",)
    assert int(ranked.dim_0[0]) == 100


@pytest.mark.parametrize("draws", [1, 7, 100])
def test_ranks_of_counts_are_uniform_however_few_the_draws(draws):
    rng = np.random.default_rng(0)
    data = arviz_data(rng.poisson(2.0, (draws, 5000)), rng.poisson(2.0, 5000), chains=1)
    assert float(uniformity_test(pit(data, seed=3)).p_value) > 1e-3


def test_result_is_written_as_netcdf(tmp_path):
    for index, result in enumerate(
        (pit(bimodal(12), bimodal(12).mean), uniformity_test(pit(bimodal(12), bimodal(12).mean)))
    ):
        result.to_netcdf(tmp_path / f"{index}.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("source", "y", "message"),
    [
        (bimodal(120), torch.zeros(120, 1), r"expected y of shape \(120,\), got \(120, 1\)"),
        (bimodal(3), None, r"expected y of shape \(3,\) with a mixture, got None"),
        (bimodal(3), torch.tensor([0.0, torch.nan, torch.inf]), "expected finite y, got 2 of 3"),
        (torch.zeros(3), torch.zeros(3), r"expected draws of shape \(draws, N\), got \(3,\)"),
        ("y", torch.zeros(3), "expected a Mixture with y, .* got str"),
        (bimodal(3)[0], torch.tensor(0.0), r"expected a mixture of batch shape \(N,\), got \(\)"),
        (arviz_data(np.zeros((4, 2)), np.zeros(2)), torch.zeros(2), "expected no y with ArviZ data"),
        (from_groups({"posterior": xr.Dataset()}), None, "expected ArviZ data with a group 'observed_data'"),
        (arviz_data(np.zeros((4, 2)), np.array([0.0, np.nan])), None, "expected finite observed_data"),
        (arviz_data(np.full((4, 2), np.inf), np.zeros(2)), None, "expected finite posterior_predictive"),
    ],
)
def test_bad_input_is_refused(source, y, message):
    with pytest.raises(ValueError, match=message):
        pit(source, y)


@pytest.mark.parametrize("values", [[], [0.5, 1.5], [np.nan, 0.5]])
def test_uniformity_wants_values_between_zero_and_one(values):
    with pytest.raises(ValueError, match="expected"):
        uniformity_test(xr.Dataset({"pit": ("obs", values)}))
    with pytest.raises(ValueError, match=r"expected a result of pit\(\), with pit, got"):
        uniformity_test(xr.Dataset({"u": ("obs", [0.5])}))


@pytest.mark.parametrize("kind", ["cdf", "rank"])
def test_values_of_counts_are_uniform(kind):
    """2,000 Poisson counts (seed 4); F(y) itself is far from uniform."""
    torch.manual_seed(4)
    counts = Mixture(Categorical(logits=torch.zeros(2000, 2)), Poisson(torch.tensor([1.0, 3.0]).expand(2000, 2)))
    y = counts.sample()
    found = pit(counts, y, kind=kind)
    assert float(uniformity_test(found, "chi2").p_value) > 1e-3
    np.testing.assert_allclose(found.pit + found.pit_sf, 1.0, atol=1e-6)
    raw = xr.Dataset({"pit": ("obs", counts.cdf(y).double().numpy())})
    assert float(uniformity_test(raw, "chi2").p_value) < 1e-6


def test_hdi_values_are_small_between_the_peaks():
    model = Mixture.normal(torch.zeros(3, 2), torch.tensor([-3.0, 3.0]), torch.ones(3, 2))
    found = pit(model, torch.tensor([0.0, 3.0, 9.0]), kind="hdi")
    assert found.pit[0] < 0.05
    assert found.pit[1] > 0.9
    assert found.pit[2] < 0.01
    np.testing.assert_allclose(found.pit + found.pit_sf, 1.0)


def test_hdi_values_of_several_targets_are_uniform():
    torch.manual_seed(5)
    loc, tril = torch.randn(1000, 2, 2), torch.tensor([[1.0, 0.0], [0.7, 0.5]]).expand(1000, 2, 2, 2)
    model = Mixture.multivariate_normal(torch.zeros(1000, 2), loc, tril)
    assert float(uniformity_test(pit(model, model.sample(), kind="hdi"), "ad").p_value) > 1e-3
    wide = Mixture.multivariate_normal(torch.zeros(1000, 2), loc, 1.3 * tril)
    assert float(uniformity_test(pit(wide, model.sample(), kind="hdi"), "ad").p_value) < 1e-6


@pytest.mark.parametrize(
    ("source", "y", "arguments", "message"),
    [
        (bimodal(3), torch.zeros(3), {"kind": "tail"}, "expected kind to be one of 'cdf', 'rank', 'hdi', got 'tail'"),
        (bimodal(3), torch.zeros(3), {"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
        (
            bimodal(3),
            torch.zeros(3),
            {"kind": "rank", "draws": 0},
            "expected draws to be a whole number .* got 0",
        ),
        (np.zeros((9, 3)), np.zeros(3), {"kind": "cdf"}, "expected a Mixture for kind='cdf', got draws"),
        (np.zeros((9, 3)), None, {}, "expected y with an array of draws, got None"),
        (np.zeros((9, 3)), np.zeros(4), {}, r"expected y of shape \(3,\), got \(4,\)"),
        (np.full((9, 3), np.nan), np.zeros(3), {}, "expected finite draws, got 27 of 27"),
        (
            np.zeros((9, 3)),
            np.zeros(3),
            {"var_name": "y"},
            "expected var_name only with ArviZ data, got 'y' with an array",
        ),
    ],
)
def test_bad_arguments_are_refused(source, y, arguments, message):
    with pytest.raises(ValueError, match=message):
        pit(source, y, **arguments)
