"""Predictives known by draws: ranks, moments, quantiles, log scores and chunks of arrays and ArviZ data."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import logsumexp

from posterity.inference.arviz import from_arrays, from_groups
from posterity.inference.diagnostics import pit
from posterity.inference.diagnostics.sources import draws as module
from posterity.inference.diagnostics.sources.draws import source_of_arviz, source_of_draws
from tests.inference.diagnostics.cases import arviz_data, bimodal


def test_tails_are_randomised_ranks_that_sum_to_one():
    """Without ties y has one slot among the S + 1 between the draws; with ties one of as many slots more."""
    draws = np.array([[0.0, 2.0], [1.0, 2.0], [2.0, 2.0], [3.0, 5.0]])
    below, above = source_of_draws(draws, np.array([1.5, 2.0]), several=False).tails(seed=0)
    np.testing.assert_allclose(below + above, 1)
    assert 2 / 5 <= below[0] <= 3 / 5
    assert 0 <= below[1] <= 4 / 5


def test_ranks_of_draws_from_the_model_are_uniform_though_tied():
    """Mean 1/2 and variance 1/12, within five standard errors, of counts that are often equal."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 20_000))
    below, _ = source_of_draws(counts[1:], counts[0], several=False).tails(seed=1)
    assert below.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / 20_000))
    assert below.var() == pytest.approx(1 / 12, abs=5 * np.sqrt(1 / 180 / 20_000))


def test_moments_and_quantiles_are_numpys_in_chunks_too(monkeypatch):
    draws = np.random.default_rng(0).normal(size=(20, 7))
    monkeypatch.setattr(module, "CHUNK", 20 * 3)
    source = source_of_draws(draws, np.zeros(7), several=False)
    assert len(source.chunks()) == 3
    mean, sd = source.moments()
    np.testing.assert_allclose(mean, draws.mean(0))
    np.testing.assert_allclose(sd, draws.std(0, ddof=1))
    np.testing.assert_allclose(source.quantiles(np.array([0.1, 0.5])), np.quantile(draws, [0.1, 0.5], axis=0))
    np.testing.assert_array_equal(np.concatenate([part for _, part in source.draw_chunks(1, 0)], 1), draws)


def test_equal_draws_are_constant_and_a_single_draw_has_no_spread():
    draws = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])
    assert source_of_draws(draws, np.zeros(2), several=False).is_constant().tolist() == [True, False]
    with pytest.raises(ValueError, match="expected at least 2 posterior-predictive draws, got 1"):
        source_of_draws(draws[:1], np.zeros(2), several=False).moments()


def test_arviz_data_are_read_in_the_order_of_their_observations():
    """The log score is the log of the mean likelihood over all draws of all chains."""
    rng = np.random.default_rng(0)
    y, made, log_likelihood = rng.normal(size=(3, 2)), rng.normal(size=(2, 5, 3, 2)), rng.normal(size=(2, 5, 3, 2))
    data = from_arrays(
        observed_data={"y": y}, posterior_predictive={"y": made}, log_likelihood={"y": log_likelihood},
        dims={"y": ["row", "column"]},
    )  # fmt: skip
    source = source_of_arviz(data, ["posterior_predictive", "observed_data", "log_likelihood"], None, None)
    np.testing.assert_array_equal(source.observed, y.reshape(6))
    np.testing.assert_array_equal(source.predictive, made.reshape(10, 6))
    expected = logsumexp(log_likelihood.reshape(10, 6), axis=0) - np.log(10)
    np.testing.assert_allclose(source.log_score(), expected)
    assert source.dataset({"score": expected})["score"].dims == ("row", "column")


def test_an_array_of_draws_has_no_log_score():
    with pytest.raises(ValueError, match="for a log score, got draws"):
        source_of_draws(np.zeros((3, 2)), np.zeros(2), several=False).log_score()


@pytest.mark.parametrize(
    ("draws", "y", "message"),
    [
        (np.zeros((3, 2)), None, "expected y with an array of draws, got None"),
        (np.zeros(3), np.zeros(3), r"expected draws of shape \(draws, N\), got \(3,\)"),
        (np.zeros((3, 2)), np.zeros(3), r"expected y of shape \(2,\), got \(3,\)"),
        (np.full((3, 2), np.nan), np.zeros(2), "expected finite draws"),
        (xr.DataArray(np.zeros((3, 2)), dims=("s", "a")), xr.DataArray(np.zeros(2), dims="b"), "over the dimensions"),
    ],
)
def test_draws_that_do_not_fit_are_refused(draws, y, message):
    with pytest.raises(ValueError, match=message):
        source_of_draws(draws, y, several=False)


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
