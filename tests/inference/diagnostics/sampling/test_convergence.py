import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference.diagnostics import function_convergence


def test_independent_draws_converge():
    values = torch.as_tensor(np.random.default_rng(0).normal(size=(4, 1000, 5)))
    result = function_convergence(values)
    assert result.rhat.dims == ("point",)
    assert float(result.rhat.max()) < 1.01
    assert float(result.ess_bulk.min()) > 3000
    assert float(result.ess_tail.min()) > 3000


def test_a_shifted_chain_is_found_at_its_point_alone():
    values = np.random.default_rng(1).normal(size=(4, 500, 2))
    values[0, :, 1] += 2.0
    result = function_convergence(values)
    assert float(result.rhat[0]) < 1.02
    assert float(result.rhat[1]) > 1.1


def test_autocorrelation_lowers_the_effective_sample_size():
    """An AR(1) of coefficient 0.8 is worth (1 - 0.8)/(1 + 0.8) of its length."""
    rng = np.random.default_rng(2)
    values = np.zeros((4, 5000, 1))
    noise = rng.normal(size=values.shape)
    for step in range(1, 5000):
        values[:, step] = 0.8 * values[:, step - 1] + noise[:, step]
    assert float(function_convergence(values).ess_bulk[0]) == pytest.approx(20_000 / 9, rel=0.15)


def test_chains_that_stand_still_apart_have_not_converged():
    values = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 100, 1))
    assert not float(function_convergence(values).rhat[0]) < 1.1


def test_arviz_data_are_read_by_the_names_of_their_dimensions():
    values = np.random.default_rng(3).normal(size=(4, 50, 6)) + np.arange(4)[:, None, None]
    array = xr.DataArray(values.reshape(4, 50, 2, 3), dims=("chain", "draw", "layer", "unit"))
    expected = function_convergence(values)
    xr.testing.assert_identical(function_convergence(array.transpose("layer", "unit", "draw", "chain")), expected)
    assert function_convergence(array[..., 0, 0].T).sizes == {"point": 1}


def test_single_precision_is_that_of_its_numbers():
    values = np.random.default_rng(4).normal(size=(4, 50, 3)).astype(np.float32)
    xr.testing.assert_identical(function_convergence(values), function_convergence(values.astype(float)))


def test_result_is_written_as_netcdf(tmp_path):
    function_convergence(torch.randn(2, 10, 3)).to_netcdf(tmp_path / "convergence.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 100)), r"expected values of shape \(chain >= 2, draw >= 4, points\), got \(4, 100\)"),
        (np.zeros((1, 100, 3)), r"chain >= 2.* got \(1, 100, 3\)"),
        (np.full((2, 10, 3), np.nan), "expected finite values, got 60 of 60"),
        (np.zeros((2, 10, 3)), "expected values that differ between draws, got 3 points"),
        (np.zeros((2, 10, 3), complex), "expected real numbers as values, got complex128"),
        (np.full((2, 10, 3), "1.0"), "expected real numbers as values, got <U3"),
        (np.zeros((2, 10, 3), object), "expected real numbers as values, got object"),
        (np.zeros((2, 10, 3), "datetime64[s]"), "expected real numbers as values, got datetime64"),
        (np.ma.masked_all((2, 10, 3)), "expected values without a mask, got a masked array"),
        (xr.DataArray(np.zeros((2, 10, 3)), dims=("c", "draw", "p")), r"dimensions chain and draw, got \('c', 'draw'"),
        (xr.Dataset({"f": (("chain", "draw"), np.zeros((2, 10)))}), "as a DataArray .* got a Dataset"),
    ],
)
def test_bad_input_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        function_convergence(values)
