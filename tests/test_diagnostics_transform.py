import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import pit, pit_uniformity
from posterity.models.mixtures import Mixture


def bimodal(n: int, width: float = 1.0) -> Mixture:
    """Two peaks whose weights and places change along the batch; ``width`` scales both."""
    x = torch.linspace(-2, 2, n).double()
    logits = torch.stack([x, -x], -1)
    loc = torch.stack([torch.sin(x) + 1.5, torch.cos(x) - 1.5], -1)
    return Mixture.normal(logits, loc, width * torch.tensor([0.5, 1.0]).double())


def arviz_data(draws: np.ndarray, y: np.ndarray, chains: int = 4) -> object:
    shape = (chains, len(draws) // chains, *y.shape)
    dims = [f"dim_{index}" for index in range(y.ndim)]
    coords = {dims[0]: np.arange(100, 100 + len(y))}
    return from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", *dims), draws.reshape(shape))}, coords),
            "observed_data": xr.Dataset({"y": (dims, y)}, coords),
        }
    )


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
    assert float(pit_uniformity(pit(bimodal(4000), y)).p_value) > 1e-3
    assert float(pit_uniformity(pit(bimodal(4000, width=0.8), y)).p_value) < 1e-3


def test_blocks_of_rows_do_not_change_the_result(monkeypatch):
    y = bimodal(37).mean
    whole = pit(bimodal(37), y)
    monkeypatch.setattr("posterity.inference.diagnostics._rows.BLOCK", 20)
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
    assert float(pit_uniformity(pit(data, seed=3)).p_value) > 1e-3


def test_observations_keep_all_their_dimensions_in_any_order_of_the_draws():
    rng = np.random.default_rng(0)
    y, draws = rng.normal(size=(5, 3)), rng.normal(size=(40, 5, 3))
    expected = pit(arviz_data(draws, y))
    coords = {"dim_0": np.arange(100, 105)}
    dims = ("dim_1", "draw", "dim_0", "chain")
    turned = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (dims, draws.reshape(4, 10, 5, 3).transpose(3, 1, 2, 0))}, coords),
            "observed_data": xr.Dataset({"y": (("dim_0", "dim_1"), y)}, coords),
        }
    )
    assert expected.pit.dims == ("dim_0", "dim_1")
    xr.testing.assert_identical(pit(turned), expected)


def test_result_is_written_as_netcdf(tmp_path):
    for index, result in enumerate(
        (pit(bimodal(5), bimodal(5).mean), pit_uniformity(pit(bimodal(5), bimodal(5).mean)))
    ):
        result.to_netcdf(tmp_path / f"{index}.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("source", "y", "message"),
    [
        (bimodal(120), torch.zeros(120, 1), r"expected y of shape \(120,\), got \(120, 1\)"),
        (bimodal(3), None, r"expected y of shape \(3,\) with a mixture, got None"),
        (bimodal(3), torch.tensor([0.0, torch.nan, torch.inf]), "expected finite y, got 2 of 3"),
        (torch.zeros(3), torch.zeros(3), "expected a Mixture with y, or ArviZ data .* got Tensor"),
        (bimodal(3)[0], torch.tensor(0.0), r"expected a mixture of batch shape \(N,\), got \(\)"),
        (arviz_data(np.zeros((4, 2)), np.zeros(2)), torch.zeros(2), "expected no y beside ArviZ data"),
        (from_groups({"posterior": xr.Dataset()}), None, "expected ArviZ data with a group 'observed_data'"),
        (arviz_data(np.zeros((4, 2)), np.array([0.0, np.nan])), None, "expected finite observed_data"),
        (arviz_data(np.full((4, 2), np.inf), np.zeros(2)), None, "expected finite posterior_predictive"),
    ],
)
def test_bad_input_is_refused(source, y, message):
    with pytest.raises(ValueError, match=message):
        pit(source, y)


def test_var_name_must_choose_among_several():
    values = xr.Dataset({"a": ("obs", np.zeros(3)), "b": ("obs", np.ones(3))})
    draws = xr.Dataset({name: (("chain", "draw", "obs"), np.zeros((1, 5, 3))) for name in "ab"})
    data = from_groups({"posterior_predictive": draws, "observed_data": values})
    assert pit(data, var_name="b").pit.min() > 0.8
    with pytest.raises(ValueError, match=r"expected var_name, one of \['a', 'b'\], got None"):
        pit(data)
    with pytest.raises(ValueError, match="expected var_name only with ArviZ data"):
        pit(bimodal(3), torch.zeros(3), var_name="a")
    wrong = from_groups({"posterior_predictive": draws.isel(obs=slice(2)), "observed_data": values})
    with pytest.raises(ValueError, match=r"with dimensions chain, draw and \{'obs': 3\}, got .*'obs': 2"):
        pit(wrong, var_name="a")


@pytest.mark.parametrize("values", [[], [0.5, 1.5], [np.nan, 0.5]])
def test_uniformity_wants_values_between_zero_and_one(values):
    with pytest.raises(ValueError, match="expected"):
        pit_uniformity(xr.Dataset({"pit": ("obs", values)}))
    with pytest.raises(ValueError, match="expected a Dataset with a variable 'pit'"):
        pit_uniformity(xr.Dataset({"u": ("obs", [0.5])}))
