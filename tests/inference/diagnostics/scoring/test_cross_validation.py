"""K-fold cross-validation against the closed form of a linear regression."""

from dataclasses import dataclass

import arviz as az
import joblib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import kfold
from posterity.inference import NUTS, Blocks, Posterior, infer
from posterity.inference.arviz import HAS_INFERENCE_DATA, read_elpd
from posterity.inference.diagnostics.scoring.comparison import compare
from posterity.inference.diagnostics.scoring.cross_validation import elpd_kfold
from posterity.inference.diagnostics.scoring.loo import loo
from posterity.inference.program.sites import inspect
from tests.inference.arviz import outlier_cases as cases

X, Y = torch.as_tensor(cases.X), torch.as_tensor(cases.Y)
Y = torch.where(torch.arange(20) == cases.OUTLIER, Y - 2, Y)  # without the outlier
HIDDEN = torch.arange(22) > 1


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, cases.NOISE), obs=y)


def without_x(x, y=None):
    mean = pyro.sample("mean", dist.Normal(torch.zeros(()).to(x), 2.0))
    noise = pyro.sample("noise", dist.HalfNormal(torch.ones(()).to(x)))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean + 0 * x[:, 0], noise), obs=y)


@dataclass(frozen=True)
class Exact:
    """Draws from the exact posterior of `regression`."""

    draws: int = 2000

    def run(self, model, *args, seed, guide=None, site=None):
        x, y = (value.numpy() for value in args)
        covariance = np.linalg.inv(np.eye(3) / cases.PRIOR**2 + x.T @ x / cases.NOISE**2)
        mean = covariance @ x.T @ y / cases.NOISE**2
        draws = np.random.default_rng(seed).multivariate_normal(mean, covariance, size=(2, self.draws))
        return Posterior(model, inspect(model, args, site), {"w": torch.as_tensor(draws)})


def by_hand(labels, draws=4000):
    """The exact densities of all rows, and the standard errors of averages over draws."""
    density, error = np.empty(20), np.empty(20)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        test, kept = np.flatnonzero(labels == label), labels != label
        x, y = X.numpy(), Y.numpy()
        covariance = np.linalg.inv(np.eye(3) / cases.PRIOR**2 + x[kept].T @ x[kept] / cases.NOISE**2)
        mean = covariance @ x[kept].T @ y[kept] / cases.NOISE**2
        sd = np.sqrt(cases.NOISE**2 + np.einsum("ni,ij,nj->n", x[test], covariance, x[test]))
        density[test] = -0.5 * ((y[test] - x[test] @ mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
        w = rng.multivariate_normal(mean, covariance, size=draws)
        terms = np.exp(-0.5 * ((y[test] - w @ x[test].T) / cases.NOISE) ** 2)
        error[test] = terms.std(0) / terms.mean(0) / np.sqrt(draws)
    return density, error


def labels_of(folds, seed, n=20):
    labels = np.empty(n, dtype=int)
    for number, (_, test) in enumerate(kfold(n, folds, seed)):
        labels[test.numpy()] = number
    return labels


def elpd_of(found):
    return read_elpd(found)["elpd"]


@pytest.mark.parametrize(
    "folds", [4, 20, np.arange(20) % 5, [*["a"] * 8, *["b"] * 12]], ids=["4", "20", "array", "list"]
)
def test_every_row_has_its_exact_density_given_the_other_folds(folds):
    """Within 5 standard errors of the draws; the density in the fit of all rows is farther away at some rows."""
    found = elpd_kfold(regression, X, Y, folds=folds, method=Exact(), seed=3)
    labels = labels_of(folds, 3) if isinstance(folds, int) else np.asarray(folds)
    expected, error = by_hand(labels)
    assert (np.abs(elpd_of(found).values - expected) / error).max() < 5
    in_the_fit, _ = by_hand(np.arange(20))
    if not (isinstance(folds, int) and folds == 20):
        assert (np.abs(elpd_of(found).values - in_the_fit) / error).max() > 5
    np.testing.assert_array_equal(elpd_of(found)["fold"], labels)
    total = found.elpd_loo if HAS_INFERENCE_DATA else found.elpd
    assert total == pytest.approx(float(elpd_of(found).sum()))
    assert found.n_samples == 4000
    assert HAS_INFERENCE_DATA or found.n_folds == len(np.unique(labels))


def test_masked_rows_are_in_every_fit_and_not_scored():
    seen = []

    def masked(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
        with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=x[:, 0] < 50):
            return pyro.sample("y", dist.Normal(x @ w, cases.NOISE), obs=y)

    @dataclass(frozen=True)
    class Watched(Exact):
        def run(self, model, *args, seed, guide=None, site=None):
            seen.append(int((args[0][:, 0] > 50).sum()))
            there = args[0][:, 0] < 50
            return super().run(model, *(value[there] for value in args), seed=seed, site=site)

    x, y = torch.cat([X[:5], torch.full((2, 3), 100.0), X[5:]]), torch.cat([Y[:5], torch.zeros(2), Y[5:]])
    found = elpd_kfold(masked, x, y, folds=4, method=Watched(), seed=3)
    assert seen == [2] * 4
    np.testing.assert_allclose(elpd_of(found), elpd_of(elpd_kfold(regression, X, Y, folds=4, method=Exact(), seed=3)))
    assert list(elpd_of(found)["obs"].values) == [*range(5), *range(7, 22)]


def test_fits_run_side_by_side_with_the_same_numbers():
    expected = elpd_kfold(regression, X, Y, folds=4, method=Exact())
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = elpd_kfold(regression, X, Y, folds=4, method=Exact())
    np.testing.assert_array_equal(elpd_of(found), elpd_of(expected))


def test_a_method_may_run_blocks_in_the_same_thread():
    method = Blocks(NUTS(chains=2, warmup=10, draws=10, progress=False), blocks=2, jobs=1)
    found = elpd_kfold(regression, X, Y, folds=2, method=method)
    assert found.n_samples == 20


def test_models_are_compared_by_it_and_with_others():
    method = NUTS(chains=1, warmup=50, draws=50, progress=False)
    data = infer(regression, X, Y, method=Exact()).to_arviz(X, Y)
    models = {
        "regression": elpd_kfold(regression, X, Y, folds=4, method=Exact()),
        "mean": elpd_kfold(without_x, X, Y, folds=4, method=method),
        "loo": loo(data, threshold=np.inf),
    }
    table = compare(models)
    assert table.index[-1] == "mean"
    assert table["elpd_diff"]["mean"] < -20
    assert abs(table["elpd"]["loo"] - table["elpd"]["regression"]) < 3  # fewer rows in each fit
    assert np.isnan(table["p"]["regression"])


@pytest.mark.skipif(HAS_INFERENCE_DATA, reason="ArviZ 0.23 has no K-fold cross-validation")
def test_it_is_arvizs_own_of_the_same_fits():
    from arviz_stats.loo import SamplingWrapper

    from posterity.random import child_seeds

    labels = labels_of(4, 3)
    data = infer(regression, X, Y, method=Exact()).to_arviz(X, Y)

    class Wrapper(SamplingWrapper):
        seeds = iter(child_seeds(3, 4, 5))

        def sel_observations(self, idx):
            kept = np.setdiff1d(np.arange(20), idx)
            return (X[kept], Y[kept]), (X[idx], Y[idx])

        def sample(self, modified_observed_data):
            return infer(regression, *modified_observed_data, method=Exact(), seed=next(self.seeds))

        def get_inference_data(self, fitted_model):
            return fitted_model

        def log_likelihood__i(self, excluded_obs, idata__i):
            import xarray as xr

            return xr.DataArray(idata__i.log_likelihood(*excluded_obs), dims=("chain", "draw", "obs"))

    expected = az.loo_kfold(data, Wrapper(model=None, idata_orig=data), folds=labels + 1, pointwise=True)
    found = elpd_kfold(regression, X, Y, folds=4, method=Exact(), seed=3)
    np.testing.assert_allclose(found.elpd_i, expected.elpd_i, rtol=1e-9)
    assert found.elpd == pytest.approx(float(expected.elpd))
    assert found.n_folds == expected.n_folds


def test_bad_input_is_refused():
    for settings, message in (
        ({"folds": 1}, "expected folds to be a whole number of 2 or more, got 1"),
        ({"folds": 21}, "expected at least as many rows as folds, got 20 rows and 21 folds"),
        ({"folds": np.zeros(20, int)}, "expected at least 2 folds of rows that the model scores, got 1"),
        ({"folds": np.zeros(19, int)}, r"expected folds to be a number, or the fold of each of 20 rows, got an array"),
        ({"folds": 2.5}, "expected folds to be a number, or the fold of each of 20 rows, got 2.5"),
        ({"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
        ({"method": "nuts"}, r"expected a method such as NUTS\(\), HMC\(\) or SVI\(\), got 'nuts'"),
    ):
        with pytest.raises(ValueError, match=message):
            elpd_kfold(regression, X, Y, **{"method": Exact(), **settings})
    with pytest.raises(ValueError, match="expected a model with an observed site"):
        elpd_kfold(lambda x, y=None: pyro.sample("w", dist.Normal(0.0, 1.0)), X, Y, method=Exact())

    def several(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), 1.0).to_event(1))
        with pyro.plate("columns", 3), pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x * w, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected one log density for each row, got shape \(5, 3\)"):
        elpd_kfold(several, X, X, folds=4, method=NUTS(chains=1, warmup=5, draws=5, progress=False))
