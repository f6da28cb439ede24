"""Likelihood gained by a repair: closed forms for one normal, and a search over a grid for two."""

import numpy as np
import pytest
import torch
from scipy import stats

from posterity.inference.diagnostics.sources.mixture_gains import likelihood_ratios
from posterity.inference.diagnostics.sources.reading import read
from posterity.models.mixtures import Mixture

Y = torch.as_tensor(np.random.default_rng(4).normal(0.3, 1.4, size=200))


def test_gains_of_one_normal_have_a_closed_form():
    """Of the width with the mean fixed, n (v - 1 - log v) with v the mean square; of the mean, n times its square."""
    model = Mixture.normal(torch.zeros(200, 1), torch.zeros(200, 1), torch.ones(200, 1))
    found = likelihood_ratios(read(model, Y), ["width", "shift", "weight"], seed=0)
    square, mean = float((Y**2).mean()), float(Y.mean())
    assert found["width"] == (pytest.approx(200 * (square - 1 - np.log(square)), rel=1e-6), 1)
    assert found["shift"] == (pytest.approx(200 * mean**2, rel=1e-6), 1)
    assert found["weight"] == (pytest.approx(0, abs=1e-9), 0)


def test_the_gain_of_weights_is_the_largest_over_a_grid():
    y = torch.as_tensor(np.random.default_rng(5).normal(np.repeat([-2.0, 2.0], [60, 140]), 1.0))
    model = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(1.0)).expand([200])
    gain, freedom = likelihood_ratios(read(model, y), ["weight"], seed=0)["weight"]
    first, second = stats.norm.pdf(y.numpy(), -2), stats.norm.pdf(y.numpy(), 2)
    share = np.linspace(0.01, 0.99, 981)[:, None]
    likelihood = np.log(share * first + (1 - share) * second).sum(1)
    at_half = np.log(0.5 * first + 0.5 * second).sum()
    assert gain == pytest.approx(2 * (likelihood.max() - at_half), rel=1e-4)
    assert freedom == 1


def test_a_right_model_gains_as_wilks_says():
    """Mean of chi2 with 2 degrees of freedom over 200 samples of 300 values: 2 ± 0.14; seed 0."""
    model = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(1.0)).expand([300])
    torch.manual_seed(0)
    gains = [likelihood_ratios(read(model, y), ["shift"], seed=0)["shift"][0] for y in model.sample((200,))]
    assert abs(np.mean(gains) - 2) < 4 * 2 / np.sqrt(200)
