"""Sources of draws: arrays and ArviZ data give the same, in the order of the observations."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import pit
from posterity.inference.diagnostics.sources.draws import column_chunks, source_of_arviz, source_of_draws
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


def test_var_name_must_choose_among_several():
    values = xr.Dataset({"a": ("obs", np.zeros(3)), "b": ("obs", np.ones(3))})
    draws = xr.Dataset({name: (("chain", "draw", "obs"), np.zeros((1, 5, 3))) for name in "ab"})
    data = from_groups({"posterior_predictive": draws, "observed_data": values})
    assert pit(data, var_name="b").pit.min() > 0.8
    with pytest.raises(ValueError, match="expected var_name to be one of 'a', 'b', got None"):
        pit(data)
    with pytest.raises(ValueError, match="expected var_name only with ArviZ data"):
        pit(bimodal(3), torch.zeros(3), var_name="a")
    wrong = from_groups({"posterior_predictive": draws.isel(obs=slice(2)), "observed_data": values})
    with pytest.raises(ValueError, match=r"with dimensions chain, draw and \{'obs': 3\}, got .*'obs': 2"):
        pit(wrong, var_name="a")


def test_arrays_of_draws_are_arviz_data_without_the_container():
    rng = np.random.default_rng(6)
    draws, y = rng.normal(size=(50, 20)), rng.normal(size=20)
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs"), draws[None])}),
            "observed_data": xr.Dataset({"y": ("obs", y)}),
        }
    )
    np.testing.assert_array_equal(pit(draws, y, seed=3).pit, pit(data, seed=3).pit)
    np.testing.assert_array_equal(pit(torch.tensor(draws), torch.tensor(y), seed=3).pit, pit(data, seed=3).pit)


def test_other_coordinates_are_refused():
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset(
                {"y": (("chain", "draw", "obs"), np.zeros((1, 9, 3)))}, {"obs": [0, 1, 2]}
            ),
            "observed_data": xr.Dataset({"y": ("obs", np.zeros(3))}, {"obs": [2, 1, 0]}),
        }
    )
    with pytest.raises(ValueError, match=r"expected posterior_predictive\['y'\] with the coordinates 'obs'"):
        pit(data)


def test_the_log_score_is_the_average_likelihood():
    log_likelihood = np.log(np.array([[[0.2, 0.5]], [[0.4, 0.1]]]))
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs"), np.zeros((2, 1, 2)))}),
            "log_likelihood": xr.Dataset({"y": (("chain", "draw", "obs"), log_likelihood)}),
            "observed_data": xr.Dataset({"y": ("obs", np.zeros(2))}),
        }
    )
    source = source_of_arviz(data, ["posterior_predictive", "log_likelihood", "observed_data"], None, None)
    np.testing.assert_allclose(source.log_score(), np.log([0.3, 0.3]), rtol=1e-12)
    with pytest.raises(ValueError, match="expected a Mixture, or ArviZ data with a group 'log_likelihood'"):
        source_of_draws(np.zeros((4, 2)), np.zeros(2), several=False).log_score()


def test_ranks_of_ties_are_uniform_between_the_neighbours():
    """y equals 3 of 9 draws: its rank is uniform on (2/10, 6/10), and the tails sum to one."""
    draws = np.repeat(np.array([0, 0, 1, 1, 1, 2, 2, 2, 2.0])[:, None], 4000, axis=1)
    lower, upper = source_of_draws(draws, np.ones(4000), several=False).tails(seed=0)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-12)
    assert stats.kstest((lower - 0.2) / 0.4, "uniform").pvalue > 1e-3


def test_chunks_cover_the_observations_once(monkeypatch):
    source = source_of_draws(np.random.default_rng(0).normal(size=(20, 50)), np.zeros(50), several=False)
    whole = source.quantiles(np.array([0.3, 0.7]))
    monkeypatch.setattr("posterity.inference.diagnostics.sources.draws.CHUNK", 100)
    assert [(rows.start, rows.stop) for rows in column_chunks(source.predictive)] == [
        (s, s + 5) for s in range(0, 50, 5)
    ]
    np.testing.assert_array_equal(source.quantiles(np.array([0.3, 0.7])), whole)


def test_equal_draws_are_constant_whatever_rounding_says():
    draws = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    source = source_of_draws(draws, np.zeros(2), several=False)
    assert source.is_constant().tolist() == [True, False]
    with pytest.raises(ValueError, match="expected at least 2 posterior-predictive draws, got 1"):
        source_of_draws(draws[:1], np.zeros(2), several=False).require_two_draws()
