"""Predictives known by draws: ranks, moments, quantiles, log scores and chunks of arrays and ArviZ data."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp

from posterity.inference.arviz import from_arrays
from posterity.inference.diagnostics.sources import draws as module
from posterity.inference.diagnostics.sources.draws import source_of_arviz, source_of_draws


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
