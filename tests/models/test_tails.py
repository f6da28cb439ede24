"""Distribution functions of single families; `mixtures/test_mixture.py` tests them in mixtures."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from posterity.models import tails

LOC, SCALE = torch.tensor(2.0, dtype=torch.double), torch.tensor(0.5, dtype=torch.double)
FAMILIES = {
    "Normal": (dist.Normal(LOC, SCALE), stats.norm(2, 0.5)),
    "Laplace": (dist.Laplace(LOC, SCALE), stats.laplace(2, 0.5)),
    "StudentT": (dist.StudentT(4.5, LOC, SCALE), stats.t(4.5, 2, 0.5)),
    "LogNormal": (dist.LogNormal(LOC, SCALE), stats.lognorm(0.5, scale=math.exp(2))),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_tails_are_scipys(family):
    distribution, reference = FAMILIES[family]
    y = np.geomspace(0.01, 1e4, 19) if family == "LogNormal" else np.linspace(2 - 15, 2 + 15, 61)
    np.testing.assert_allclose(tails.cdf(distribution, torch.tensor(y)), reference.cdf(y), rtol=1e-9)
    np.testing.assert_allclose(tails.sf(distribution, torch.tensor(y)), reference.sf(y), rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_are_scipys(family):
    distribution, reference = FAMILIES[family]
    p = np.array([1e-12, 1e-5, 0.1, 0.4999, 0.5, 0.7, 0.999])
    np.testing.assert_allclose(tails.icdf(distribution, torch.tensor(p)), reference.ppf(p), rtol=1e-9)


@pytest.mark.parametrize("family", ["Normal", "Laplace", "StudentT"])
def test_quantiles_of_0_and_1_are_infinite(family):
    """SciPy's own quantile of Student's t is +inf at 0."""
    found = tails.icdf(FAMILIES[family][0], torch.tensor([0.0, 1.0], dtype=torch.double))
    assert found.tolist() == [-math.inf, math.inf]


def test_the_dtype_of_the_value_is_kept():
    distribution = dist.StudentT(torch.tensor(3.0), torch.tensor(0.0), torch.tensor(1.0))
    assert tails.cdf(distribution, torch.tensor(0.3)).dtype == torch.float32
