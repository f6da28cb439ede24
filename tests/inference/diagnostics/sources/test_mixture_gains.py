"""Likelihood gained by a change of width, place or weight, against closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

from posterity.inference.diagnostics.sources.mixture import source_of_mixture
from posterity.inference.diagnostics.sources.mixture_gains import likelihood_ratios
from posterity.inference.diagnostics.sources.reading import read
from posterity.models.mixtures import Mixture


def test_gains_of_one_normal_are_those_of_its_maximum_likelihood():
    """Of N(0, 1) and y of mean m and mean square q: n (q - 1 - log q) by width, n m^2 by shift, nothing by weight."""
    n = 300
    y = np.random.default_rng(0).normal(0.5, 1.5, n)
    source = source_of_mixture(
        Mixture.normal(*torch.tensor([0.0, 0.0, 1.0]).double().expand(n, 1, 3).unbind(-1)), y, False
    )
    gains = likelihood_ratios(source, ["width", "shift", "weight"], seed=0)
    square = np.mean(y**2)
    assert gains["width"] == (pytest.approx(n * (square - 1 - np.log(square)), rel=1e-4), 1)
    assert gains["shift"] == (pytest.approx(n * y.mean() ** 2, rel=1e-4), 1)
    assert gains["weight"] == (pytest.approx(0, abs=1e-6), 0)


def test_the_gain_by_weights_of_components_far_apart_is_that_of_their_counts():
    """2 sum_k n_k log(n_k / (n w_k)), the likelihood ratio of a multinomial."""
    counts, weights = np.array([50, 150, 100]), np.array([0.2, 0.3, 0.5])
    loc = 1e3 * np.arange(3.0)
    y = np.repeat(loc, counts)
    parts = (torch.tensor(values).expand(300, 3) for values in (np.log(weights), loc, np.ones(3)))
    gains = likelihood_ratios(source_of_mixture(Mixture.normal(*parts), y, several=False), ["weight"], seed=0)
    expected = 2 * np.sum(counts * np.log(counts / (300 * weights)))
    assert gains == {"weight": (pytest.approx(expected, rel=1e-4), 2)}


Y = torch.as_tensor(np.random.default_rng(4).normal(0.3, 1.4, size=200))


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
