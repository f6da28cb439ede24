"""The CRPS from draws, and the choice of the closed form."""

import numpy as np
import pytest
import torch

from posterity.inference.diagnostics import crps_from_draws, crps_normal_mixture
from posterity.inference.diagnostics.scoring import crps
from posterity.inference.diagnostics.sources.reading import read
from posterity.models.mixtures.row_chunks import sample
from tests.mixture_cases import mixture_and_y


def test_estimate_from_draws_equals_the_double_sum_over_different_pairs():
    rng = np.random.default_rng(0)
    draws, y = rng.normal(1e3, 1, (9, 4)), rng.normal(1e3, 1, 4)
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (9 * 8)
    np.testing.assert_allclose(crps_from_draws(draws, y), np.abs(draws - y).mean(0) - 0.5 * pairs, rtol=1e-9)


def test_estimate_is_unbiased_even_for_two_draws():
    mixture, y = mixture_and_y(1, 3)
    many, at = mixture[torch.zeros(40_000, dtype=torch.long)], float(y[0])
    estimates = crps_from_draws(sample(many, 2, seed=1), np.full(40_000, at))
    error = estimates.std() / np.sqrt(40_000)
    assert abs(estimates.mean() - crps_normal_mixture(mixture, y)[0]) < 4 * error


def test_estimate_agrees_with_the_closed_form():
    mixture, y = mixture_and_y(50, 5)
    exact, sd = crps_normal_mixture(mixture, y), mixture.variance.sqrt().numpy()
    estimate = crps_from_draws(sample(mixture, 10_000, seed=2), y.numpy())
    assert np.abs((estimate - exact) / sd).max() < 4.5 / np.sqrt(10_000)


def test_budget_decides_about_the_closed_form(monkeypatch):
    mixture, y = mixture_and_y(5, 10)
    data = read(mixture, y)
    np.testing.assert_array_equal(crps.crps_in_closed_form(data), crps_normal_mixture(mixture, y))
    monkeypatch.setattr("posterity.inference.diagnostics.scoring.crps.PAIR_BUDGET", 499)
    assert crps.crps_in_closed_form(data) is None


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="expected at least 2 draws for the CRPS, got 1"):
        crps_from_draws(np.zeros((1, 3)), np.zeros(3))
