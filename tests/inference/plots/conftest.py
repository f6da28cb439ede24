"""The style and the figures of a test end with it; predictives of one target over x."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture
from tests.inference.plots.cases import N, X


@pytest.fixture(autouse=True)
def fresh_style() -> Iterator[None]:
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def predictive() -> PredictiveMixture:
    """Two answers for each of four draws, which spread with x."""
    loc = torch.stack([X + 1, -X - 1], -1) + torch.arange(4.0)[:, None, None] * 0.1 * X[:, None] ** 2
    return PredictiveMixture.from_draws(Mixture.normal(torch.zeros(4, N, 2), loc, torch.full((4, N, 2), 0.3)))


@pytest.fixture
def bare() -> Mixture:
    return Mixture.normal(torch.zeros(N, 2), torch.stack([X, -X], -1), torch.full((N, 2), 0.5))


@pytest.fixture
def y(predictive: PredictiveMixture) -> torch.Tensor:
    return predictive.sample()


@pytest.fixture
def check() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {"replicated": (("statistic", "sample"), rng.normal(size=(2, 500)) + np.array([[0], [5]])),
         "observed": ("statistic", [0.1, 9.0]), "p_value": ("statistic", [1.0, 0.04])},
        coords={"statistic": ["mean", "max"]},
    )  # fmt: skip


@pytest.fixture
def ranks() -> xr.Dataset:
    rng = np.random.default_rng(1)
    pit = np.stack([rng.random(300), rng.beta(0.5, 0.5, 300), rng.random(300), rng.random(300)], 1)
    return xr.Dataset({"pit": (("simulation", "quantity"), pit)}, coords={"quantity": ["a", "b", "c", "d"]})
