import numpy as np
import pytest
import torch
import xarray as xr
from scipy import special

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import crps_from_draws
from posterity.inference.diagnostics.scoring.multivariate import (
    energy_from_draws,
    energy_score,
    variogram_from_draws,
    variogram_score,
)
from posterity.models.mixtures import Mixture


def data(draws: int = 12, n: int = 7, targets: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(draws, n, targets)), rng.normal(size=(n, targets))


def normal(n: int, covariance: list[list[float]], loc: float = 0.0) -> Mixture:
    factor = torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.double))
    targets = len(covariance)
    middle = torch.full((n, 1, targets), loc, dtype=torch.double)
    return Mixture.multivariate_normal(torch.zeros(n, 1).double(), middle, factor.expand(n, 1, targets, targets))


def arviz_data(draws: np.ndarray, y: np.ndarray) -> object:
    return from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs", "axis"), draws[None])}),
            "observed_data": xr.Dataset({"y": (("obs", "axis"), y)}),
        }
    )


@pytest.mark.parametrize("draws", [2, 11, 12])
def test_equals_scoringrules(draws):
    scoringrules = pytest.importorskip("scoringrules")
    made, y = data(draws)
    fair = scoringrules.es_ensemble(y, np.moveaxis(made, 0, 1), estimator="fair")
    np.testing.assert_allclose(energy_score(made, y).energy, fair, rtol=1e-10)
    weights = np.random.default_rng(1).uniform(size=(3, 3))
    spread = np.broadcast_to(weights, (7, 3, 3))
    for order in (0.5, 1.0, 1.7):
        fair = scoringrules.vs_ensemble(y, np.moveaxis(made, 0, 1), p=order, estimator="fair")
        np.testing.assert_allclose(variogram_score(made, y, order=order).variogram, fair, rtol=1e-9)
        fair = scoringrules.vs_ensemble(y, np.moveaxis(made, 0, 1), spread, p=order, estimator="fair")
        np.testing.assert_allclose(variogram_score(made, y, order=order, weights=weights).variogram, fair, rtol=1e-9)


def test_energy_of_one_target_is_the_crps():
    made, y = data(draws=31, targets=1)
    expected = crps_from_draws(made[..., 0], y[:, 0])
    np.testing.assert_allclose(energy_score(made, y).energy, expected, rtol=1e-10)


def test_energy_of_a_normal_with_itself_in_closed_form():
    """At its centre: E|Y| - E|Y - Y'|/2 with E|Y| = sqrt(2) G((D + 1)/2)/G(D/2), to four standard errors."""
    n, targets = 400, 3
    mean_length = np.sqrt(2) * special.gamma((targets + 1) / 2) / special.gamma(targets / 2)
    found = energy_score(normal(n, np.eye(targets).tolist()), torch.zeros(n, targets), draws=200, seed=1).energy.values
    exact = mean_length * (1 - np.sqrt(2) / 2)
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(n)
    assert found.std() / np.sqrt(n) < 0.005 * exact


def test_some_pairs_are_as_good_as_all_on_average(monkeypatch):
    """Unbiased, of draws that are a Markov chain as well: neighbours alone would be too near each other."""
    rng = np.random.default_rng(2)
    n, count = 3000, 40
    made = np.empty((count, n, 2))
    made[0] = rng.normal(size=(n, 2))
    for step in range(1, count):
        made[step] = 0.9 * made[step - 1] + np.sqrt(1 - 0.81) * rng.normal(size=(n, 2))
    y = rng.normal(size=(n, 2))
    every, pairs = energy_from_draws(made, y, 0)
    assert pairs == 40 * 39 // 2
    monkeypatch.setattr("posterity.inference.diagnostics.scoring.multivariate.PAIR_BUDGET", 4 * made.size)
    some, pairs = energy_from_draws(made, y, 0)
    assert pairs == 4 * 40 - 10
    difference = np.array([np.mean(energy_from_draws(made, y, seed)[0] - every) for seed in range(8)])
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / np.sqrt(8)
    neighbours = np.linalg.norm(made[1:] - made[:-1], axis=-1).mean()
    wrong = np.linalg.norm(made - y, axis=-1).mean() - 0.5 * neighbours
    assert wrong - every.mean() > 20 * difference.std(ddof=1)  # 38 of them
    assert not np.array_equal(some, every)


def test_blocks_do_not_change_the_scores(monkeypatch):
    made, y = data()
    energy, variogram = energy_from_draws(made, y, 0)[0], variogram_from_draws(made, y)
    monkeypatch.setattr("posterity.inference.diagnostics.scoring.multivariate.BLOCK", 50)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.draws.CHUNK", 50)
    np.testing.assert_allclose(energy_from_draws(made, y, 0)[0], energy, rtol=1e-12)
    np.testing.assert_allclose(variogram_from_draws(made, y), variogram, rtol=1e-12)


def test_variogram_of_a_normal_in_closed_form():
    """(|y_1 - y_2|^p - E|N(m, s²)|^p)² with the moment by Kummer's function; four standard errors, and unbiased."""
    n, order, y = 4000, 0.5, np.array([1.0, -0.5])
    mixture = normal(n, [[1.0, 0.3], [0.3, 0.5]])
    variance = 1.5 - 0.6
    moment = (2 * variance) ** (order / 2) * special.gamma((order + 1) / 2) / np.sqrt(np.pi)
    exact = 2 * (np.abs(y[0] - y[1]) ** order - moment) ** 2
    found = variogram_score(mixture, torch.tensor(y).expand(n, 2), draws=10, seed=3).variogram.values
    error = found.std() / np.sqrt(n)
    assert abs(found.mean() - exact) < 4 * error
    # The square of the mean of 10 draws, as it stands, would be too large by far.
    second = (2 * variance) ** order * special.gamma((2 * order + 1) / 2) / np.sqrt(np.pi)
    assert 2 * (second - moment**2) / 10 > 6 * error


def test_scores_of_the_same_seed_are_the_same():
    mixture, y = normal(5, [[1.0, 0.2], [0.2, 1.0]]), torch.zeros(5, 2)
    for score in (energy_score, variogram_score):
        xr.testing.assert_identical(score(mixture, y, draws=20, seed=1), score(mixture, y, draws=20, seed=1))
        assert not score(mixture, y, draws=20, seed=1).equals(score(mixture, y, draws=20, seed=2))


def test_arviz_data_give_what_their_arrays_give(tmp_path):
    made, y = data()
    for score, name in ((energy_score, "energy"), (variogram_score, "variogram")):
        result = score(arviz_data(made, y), target_dim="axis")
        assert result[name].dims == ("obs",)
        np.testing.assert_array_equal(result[name], score(made, y)[name])
        result.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")


def test_bad_input_is_refused():
    made, y = data()
    with pytest.raises(ValueError, match="expected at least 2 draws for a score, got 1"):
        energy_score(made[:1], y)
    with pytest.raises(ValueError, match="expected at least 2 draws for a score, got 1"):
        variogram_score(normal(2, [[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2), draws=1)
    with pytest.raises(ValueError, match=r"expected draws of shape \(draws, N, D\), got \(12, 7\)"):
        energy_score(made[..., 0], y[:, 0])
    with pytest.raises(ValueError, match="expected at least 2 targets for a variogram, got 1"):
        variogram_score(made[..., :1], y[:, :1])
    with pytest.raises(ValueError, match="expected order to be a finite number above 0, got 0"):
        variogram_score(made, y, order=0)
    for order in ("a", None, 1j, True):
        with pytest.raises(ValueError, match=f"expected order to be a finite number above 0, got {order!r}"):
            variogram_score(made, y, order=order)
    with pytest.raises(ValueError, match="expected order to be a finite number above 0, got inf"):
        variogram_score(made, y, order=float("inf"))
    with pytest.raises(ValueError, match="expected real numbers as weights, got complex128"):
        variogram_score(made, y, weights=np.ones((3, 3)) * 1j)
    with pytest.raises(ValueError, match=r"expected draws to be a whole number, got 2\.5"):
        energy_score(normal(2, [[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2), draws=2.5)
    with pytest.raises(ValueError, match=r"expected weights of shape \(3, 3\), got \(3,\)"):
        variogram_score(made, y, weights=[1, 2, 3])
    with pytest.raises(ValueError, match="expected finite weights of 0 or more, got"):
        variogram_score(made, y, weights=-np.eye(3))
    with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more, got -1"):
        energy_score(made, y, seed=-1)
    one = Mixture.normal(torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="expected a mixture of several targets"):
        energy_score(one, torch.zeros(2))
