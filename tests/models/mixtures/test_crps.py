"""The closed form of the CRPS of mixtures of normals, against its definition as an integral."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from posterity.models.mixtures import Mixture
from posterity.models.mixtures.crps import closed_form
from tests.mixture_cases import mixture_and_y


def test_single_normal_has_gneitings_closed_form():
    loc, scale, y = np.array([0.0, 1.0, -3.0]), np.array([1.0, 0.2, 5.0]), np.array([0.0, 2.0, 4.0])
    z = (y - loc) / scale
    expected = scale * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    mixture = Mixture.normal(torch.zeros(3, 1), torch.tensor(loc)[:, None], torch.tensor(scale)[:, None])
    np.testing.assert_allclose(closed_form(mixture, torch.tensor(y)), expected, rtol=1e-12)


def test_mixture_equals_the_integral_of_its_definition():
    mixture, y = mixture_and_y(3, 4)
    found = closed_form(mixture, y)
    weight = torch.softmax(mixture.log_weights, -1).numpy()
    loc, scale = mixture.component_distribution.loc.numpy(), mixture.component_distribution.scale.numpy()
    for row, at in enumerate(y.tolist()):

        def squared(t: float, tail: Callable, row: int = row) -> float:
            return float(weight[row] @ tail(t, loc[row], scale[row])) ** 2

        below = integrate.quad(squared, -15, at, args=(stats.norm.cdf,), epsabs=1e-10, limit=200)[0]
        above = integrate.quad(squared, at, 15, args=(stats.norm.sf,), epsabs=1e-10, limit=200)[0]
        assert found[row] == pytest.approx(below + above, abs=1e-8)


def test_chunks_do_not_change_the_result(monkeypatch):
    mixture, y = mixture_and_y(7, 33)
    whole = closed_form(mixture, y)
    for chunk in (1, 50, 2000):
        monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", chunk)
        monkeypatch.setattr("posterity.models.mixtures.crps.CHUNK", chunk)
        np.testing.assert_allclose(closed_form(mixture, y), whole, rtol=1e-12)
