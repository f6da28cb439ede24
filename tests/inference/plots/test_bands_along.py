"""Bands along one column are the quantiles of the predictive at a table with the other columns fixed."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

from posterity.data import Observations
from posterity.inference import SVI, infer
from posterity.inference.estimators import BayesianRegressor
from posterity.inference.plots import plot_bands_along
from tests.inference.plots.cases import line

N = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"dose": RNG.uniform(0, 4, N), "age": RNG.integers(20, 80, N).astype(float)})
Y = pd.Series(FRAME["dose"] + 0.01 * FRAME["age"] + 0.1 * RNG.normal(size=N), name="response")
DATA = Observations.from_frame(FRAME.assign(response=Y), y="response")


def plane(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, 0.1), obs=y)


@pytest.fixture(scope="module")
def posterior():
    return infer(plane, DATA, method=SVI(guide="full_rank", steps=300, draws=200, progress=False))


def axes():
    return Figure().subplots()


def test_the_median_is_that_of_the_predictive_at_the_fixed_columns(posterior):
    ax = plot_bands_along(posterior, DATA, "dose", resolution=20, ax=axes())
    grid = np.linspace(FRAME["dose"].min(), FRAME["dose"].max(), 20)
    table = torch.as_tensor(np.stack([grid, np.full(20, FRAME["age"].median())], 1))
    expected = posterior.predictive(table).icdf(0.5)
    np.testing.assert_allclose(line(ax, "median"), np.stack([grid, expected], 1), rtol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "response")
    assert ax.get_title() == f"age = {FRAME['age'].median():.4g}"
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), np.stack([FRAME["dose"], Y], 1))
    assert ax.collections[-1].get_alpha() < 0.5


def test_frames_arrays_and_observations_give_the_same_picture(posterior):
    expected = line(plot_bands_along(posterior, DATA, "age", at={"dose": 1.0}, ax=axes()), "median")
    swapped = FRAME[["age", "dose"]]  # in another order than in the fit
    for data, column, at in ((swapped, "age", {"dose": 1.0}), (FRAME.to_numpy(), 1, {"x0": 1.0})):
        ax = plot_bands_along(posterior, data, column, at=at, y=Y, ax=axes())
        np.testing.assert_allclose(line(ax, "median"), expected)
        assert ax.get_ylabel() == "response"
    assert len(plot_bands_along(posterior, FRAME, "age", ax=axes()).collections) == 2  # bands alone
    few = plot_bands_along(posterior, DATA, "age", draws=3, ax=axes(), xlabel="years", ylabel="y [mm]")
    assert (few.get_xlabel(), few.get_ylabel()) == ("years", "y [mm]")


def test_an_estimator_of_a_frame_with_categories():
    frame = FRAME.assign(site=["a", "b", "b"] * (N // 3))
    few = SVI(guide="map", steps=200, progress=False)
    model = BayesianRegressor(hidden=(4,), method=few, random_state=0).fit(frame, Y)
    ax = plot_bands_along(model, frame, "dose", y=Y, resolution=10, split=False, ax=axes())
    table = pd.DataFrame({"dose": line(ax, "median")[:, 0], "age": FRAME["age"].median(), "site": "b"})
    np.testing.assert_allclose(line(ax, "median")[:, 1], model.predict_quantiles(table, 0.5)[:, 0], rtol=1e-5)
    assert ax.get_title() == f"age = {FRAME['age'].median():.4g}, site = b"
    assert ax.get_ylabel() == "response"


def test_many_fixed_columns_are_counted(posterior):
    wide = Observations(torch.randn(20, 8), torch.randn(20))

    class Constant:
        def predict_distribution(self, table):
            return posterior.predictive(table.x[:, :2].double())

    assert plot_bands_along(Constant(), wide, 0, ax=axes()).get_title() == "7 other columns at their medians"
    assert plot_bands_along(Constant(), wide, 0, at=3, ax=axes()).get_title() == "7 other columns as in row 3"


def test_bad_input_is_refused(posterior):
    with pytest.raises(ValueError, match="expected a Posterior or a fitted estimator, got int"):
        plot_bands_along(3, DATA, "dose")
    with pytest.raises(ValueError, match="expected column to be one of"):
        plot_bands_along(posterior, DATA, "weight")
    with pytest.raises(ValueError, match=r"expected y of shape \(60,\), got \(3,\)"):
        plot_bands_along(posterior, DATA, "dose", y=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="expected resolution to be a whole number of 2 or more, got 1"):
        plot_bands_along(posterior, DATA, "dose", resolution=1)
