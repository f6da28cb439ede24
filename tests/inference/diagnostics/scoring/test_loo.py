import math
import threading
import warnings

import arviz as az
import joblib
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from posterity.inference.arviz import HAS_INFERENCE_DATA, from_arrays, from_groups, group
from posterity.inference.diagnostics.scoring.comparison import to_elpd
from posterity.inference.diagnostics.scoring.loo import leave_one_out, loo

NOISE, PRIOR = 1.0, 3.0
ARVIZ_WARNS = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution")


def observations(n: int = 20, outlier: float | None = None) -> np.ndarray:
    y = np.random.default_rng(5).normal(0.5, NOISE, n)
    if outlier is not None:
        y[3] = outlier
    return y


def left_out(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of y_n given all other y: y ~ N(mean, NOISE²) and mean ~ N(0, PRIOR²)."""
    precision = 1 / PRIOR**2 + (len(y) - 1) / NOISE**2
    return (y.sum() - y) / NOISE**2 / precision, np.full(len(y), math.sqrt(NOISE**2 + 1 / precision))


def exact(y: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(y, *left_out(y))


def fitted(y: np.ndarray, seed: int = 0, draws: int = 1000) -> object:
    """ArviZ data of draws from the exact posterior in 4 chains; the rows are called 100 and up."""
    rng = np.random.default_rng(seed)
    precision = 1 / PRIOR**2 + len(y) / NOISE**2
    mean = rng.normal(y.sum() / NOISE**2 / precision, precision**-0.5, (4, draws, 1))
    return from_arrays(
        posterior={"mean": mean[..., 0]},
        log_likelihood={"y": stats.norm.logpdf(y, mean, NOISE)},
        posterior_predictive={"y": rng.normal(mean, NOISE, (4, draws, len(y)))},
        observed_data={"y": y},
        dims={"y": ["row"]},
        coords={"row": np.arange(100, 100 + len(y))},
    )


def test_it_is_the_exact_leave_one_out_of_a_normal_mean_and_the_fit_is_not():
    """The mean over 16 sets of draws within 5 standard errors at every row; what the fit says is 5 off at most rows."""
    y = observations()
    found = [loo(fitted(y, seed)) for seed in range(16)]
    error = np.std([result.elpd for result in found], axis=0, ddof=1) / 4
    away = (np.mean([result.elpd for result in found], axis=0) - exact(y)) / error
    assert np.abs(away).max() < 5
    in_the_fit = (np.mean([result.elpd + result.p for result in found], axis=0) - exact(y)) / error
    assert (np.abs(in_the_fit) > 5).mean() > 0.9
    first = found[0]
    np.testing.assert_allclose(first.elpd_loo, first.elpd.sum(), rtol=1e-12)
    np.testing.assert_allclose(first.p_loo, first.p.sum(), rtol=1e-12)
    np.testing.assert_allclose(first.se, math.sqrt(20) * first.elpd.std(ddof=1), rtol=1e-12)
    assert int(first.n_bad) == 0
    assert not first.refitted.any()
    assert list(first.row.values[:2]) == [100, 101]


@ARVIZ_WARNS
@pytest.mark.filterwarnings("ignore:Pareto k of 1 of 20")
@pytest.mark.parametrize("reff", [None, 0.3])
@pytest.mark.parametrize("outlier", [None, 9.0])
def test_it_is_arvizs_own(outlier, reff):
    data = fitted(observations(outlier=outlier))
    mine, theirs = loo(data, reff=reff), az.loo(data, pointwise=True, reff=reff)
    pointwise = theirs.loo_i if hasattr(theirs, "loo_i") else theirs.elpd_i
    np.testing.assert_allclose(mine.elpd, pointwise, rtol=1e-10)
    np.testing.assert_allclose(mine.pareto_k, theirs.pareto_k, rtol=1e-10, atol=1e-10)
    unbiased = math.sqrt(20 / 19) if HAS_INFERENCE_DATA else 1.0
    np.testing.assert_allclose(mine.se, unbiased * theirs.se, rtol=1e-9)
    for name in ("elpd", "p"):
        np.testing.assert_allclose(
            mine[f"{name}_loo"], theirs[f"{name}_loo"] if HAS_INFERENCE_DATA else getattr(theirs, name)
        )
    assert mine.attrs["threshold"] == theirs.good_k
    assert (int(mine.n_bad) > 0) == bool(theirs.warning)


def test_blocks_of_rows_and_several_dimensions_in_any_order_change_nothing(monkeypatch):
    whole = loo(fitted(observations()))
    monkeypatch.setattr("posterity.inference.diagnostics.scoring._psis.BLOCK", 3 * 4000)
    xr.testing.assert_identical(loo(fitted(observations())), whole)
    data = fitted(observations())
    square = {
        "posterior": group(data, "posterior"),
        "log_likelihood": group(data, "log_likelihood")
        .assign_coords(row=np.arange(20))
        .coarsen(row=4)
        .construct(row=("a", "b"))
        .transpose("a", "draw", "b", "chain"),
    }
    found = loo(from_groups(square))
    assert found.elpd.dims == ("a", "b")
    np.testing.assert_array_equal(found.elpd.values.reshape(-1), whole.elpd)


def test_an_outlier_is_found_named_and_made_exact_by_a_refit():
    y = observations(n=15, outlier=25.0)
    with pytest.warns(UserWarning, match=r"Pareto k of 1 of 15 observations is above 0.70 \(highest [12]"):
        rough = loo(fitted(y))
    assert rough.pareto_k.values.argmax() == 3
    assert int(rough.n_bad) == 1
    assert float(rough.elpd[3]) - exact(y)[3] > 2  # and it errs on the side of the model
    asked: list[int] = []
    found = loo(fitted(y), refit=lambda n: asked.append(n) or exact(y)[n])
    assert asked == [3]
    np.testing.assert_array_equal(found.refitted, np.arange(15) == 3)
    assert float(found.elpd[3]) == exact(y)[3]
    np.testing.assert_array_equal(found.elpd.where(~found.refitted), rough.elpd.where(~found.refitted))
    np.testing.assert_array_equal(found.pareto_k, rough.pareto_k)  # it is kept
    assert int(found.n_bad) == 0
    np.testing.assert_allclose(found.elpd_loo - rough.elpd_loo, found.elpd[3] - rough.elpd[3], rtol=1e-9)
    np.testing.assert_allclose(found.p_loo - rough.p_loo, rough.elpd[3] - found.elpd[3], rtol=1e-9)
    assert not to_elpd(found).warning
    assert to_elpd(rough).warning


def test_refits_run_side_by_side_where_the_caller_says_so():
    y, together = observations(), threading.Barrier(4, timeout=20)

    def refit(n: int) -> float:
        together.wait()  # passes once four are there
        return exact(y)[n]

    with joblib.parallel_config(backend="threading", n_jobs=4):
        found = loo(fitted(y), threshold=-10.0, refit=refit)
    np.testing.assert_array_equal(found.elpd, exact(y))


def test_a_model_is_fitted_again_without_the_row():
    """A Pyro model by NUTS: within 5 standard errors of the draws of the exact value, which the fit's own is not."""
    torch = pytest.importorskip("torch")
    import pyro
    import pyro.distributions as dist

    from posterity.inference import NUTS, infer

    def model(x, y=None):
        mean = pyro.sample("mean", dist.Normal(torch.zeros(()).to(x), PRIOR))
        with pyro.plate("row", len(x)):
            return pyro.sample("y", dist.Normal(mean + 0 * x, NOISE), obs=y)

    y = observations(n=15, outlier=5.0)
    args, method = (
        (torch.zeros(15).double(), torch.as_tensor(y)),
        NUTS(chains=16, warmup=100, draws=100, progress=False),
    )
    data = infer(model, *args, method=method, seed=0).to_arviz(*args)
    second = float(np.sort(loo(data, threshold=np.inf).pareto_k)[-2])
    refit = leave_one_out(model, *args, method=method, seed=1)
    found = loo(data, threshold=second, refit=refit)
    np.testing.assert_array_equal(found.refitted, np.arange(15) == 3)
    mean, sd = left_out(y)
    draws = np.random.default_rng(0).normal(mean[3], math.sqrt(sd[3] ** 2 - NOISE**2), 100_000)
    likelihood = stats.norm.pdf(y[3], draws, NOISE)
    error = likelihood.std() / likelihood.mean() / math.sqrt(1600 / 4)  # a quarter of the draws count, at least
    assert abs(float(found.elpd[3]) - exact(y)[3]) < 5 * error
    assert float(found.elpd[3] + found.p[3]) - exact(y)[3] > 5 * error
    with pytest.raises(ValueError, match="expected a row from 0 to 14, got 15"):
        refit(15)


def test_the_result_is_written_as_netcdf(tmp_path):
    found = loo(fitted(observations()))
    found.to_netcdf(tmp_path / "loo.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "loo.nc", engine="h5netcdf"), found)


def test_too_few_draws_for_a_tail_are_said_to_be():
    with pytest.warns(UserWarning, match="20 draws have no tail .* compare on held-out data"):
        found = loo(fitted(observations(), draws=5))
    assert np.isfinite(found.elpd).all()


def test_densities_further_apart_than_floats_reach_stay_finite():
    """A row from -20,000 to 0 nats: with a tail that no Pareto fits, elpd is minus the log mean of 1/p, as without."""
    y = observations(n=2)
    log_likelihood = np.stack([np.linspace(-20_000.0, 0, 400), np.full(400, -1.0)], 1)[None]
    data = from_arrays(
        posterior={"w": np.zeros((1, 400))}, log_likelihood={"y": log_likelihood}, observed_data={"y": y}
    )
    with pytest.warns(UserWarning, match=r"Pareto k of 2 of 2 observations .* \(highest inf\)"):
        found = loo(data)
    expected = math.log(400) - logsumexp(-log_likelihood[0], axis=0)
    np.testing.assert_allclose(found.elpd, expected, rtol=1e-12)
    assert found.elpd[0] < -19_990


def test_the_error_of_a_single_observation_is_nan():
    with pytest.warns(UserWarning, match="the error of a single observation is nan"):
        found = loo(fitted(observations()[:1]), threshold=np.inf)
    assert np.isnan(found.se)
    assert np.isfinite(found.elpd_loo)


def changed(**groups) -> object:
    """The fitted data with other groups."""
    data = fitted(observations())
    kept = {name: group(data, name) for name in ("posterior", "log_likelihood", "observed_data")}
    return from_groups({name: values for name, values in {**kept, **groups}.items() if values is not None})


LOG_LIKELIHOOD = group(fitted(observations()), "log_likelihood")


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (np.zeros(3), {}, "expected ArviZ data .* got ndarray"),
        (changed(log_likelihood=None), {}, r"a group 'log_likelihood', got groups \['posterior', 'observed_data'\]"),
        (changed(posterior=None), {}, r"a group 'posterior', got groups \['log_likelihood', 'observed_data'\]"),
        (changed(), {"var_name": "z"}, "expected var_name to be one of 'y', got 'z'"),
        (changed(log_likelihood=LOG_LIKELIHOOD.assign(z=0.0)), {}, "expected var_name to be one of 'y', 'z', got None"),
        (changed(log_likelihood=LOG_LIKELIHOOD.isel(chain=0)), {}, r"shape \(chain, draw, ...\), got {'draw': 1000"),
        (changed(log_likelihood=LOG_LIKELIHOOD.isel(row=[])), {}, r"of shape \(chain, draw, ...\), got .*'row': 0"),
        (
            changed(log_likelihood=LOG_LIKELIHOOD.isel(chain=[0], draw=[0])),
            {},
            "at least 2 draws .* got 1: use held-out",
        ),
        (changed(log_likelihood=-np.inf * LOG_LIKELIHOOD), {}, "expected finite log_likelihood.*, got 80000 of 80000"),
        (changed(), {"reff": 0.0}, "expected reff to be a finite number above 0, got 0.0"),
        (changed(), {"threshold": -1.0, "refit": lambda n: -math.inf}, r"finite log density from refit\(0\), got -inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused(data, settings, message):
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        loo(data, **settings)


def test_thresholds_and_refits_of_another_kind_are_refused():
    rng = np.random.default_rng(0)
    made = from_arrays(posterior={"mean": rng.normal(size=(2, 50))}, log_likelihood={"y": rng.normal(size=(2, 50, 4))})
    for settings, message in (
        ({"threshold": math.nan}, r"expected threshold to be a number in \(-inf, inf\], got nan"),
        ({"reff": "a"}, "expected reff to be a finite number above 0, got 'a'"),
        ({"refit": 3}, "expected refit to be a function of the row's number, got int"),
    ):
        with pytest.raises(ValueError, match=message):
            loo(made, **settings)
