import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from posterity.inference import arviz as boundary


def dataset(name="w", seed=0, *, size=4):
    values = np.random.default_rng(seed).normal(size=(2, 50, size))
    return xr.Dataset({name: (("chain", "draw", "row"), values)}, coords={"chain": [0, 1], "draw": np.arange(50)})


GROUPS = {"posterior": dataset(), "log_likelihood": dataset("y", 1)}


def test_groups_go_in_and_come_out():
    data = boundary.from_groups(GROUPS, {"method": "NUTS", "seed": 3})
    assert boundary.group_names(data) == ["posterior", "log_likelihood"]
    for name, values in GROUPS.items():
        xr.testing.assert_equal(boundary.group(data, name), values)
    assert data.attrs["method"] == "NUTS"
    assert data.attrs["seed"] == 3


def test_arviz_reads_them():
    summary = az.summary(boundary.from_groups(GROUPS), round_to="none")
    np.testing.assert_allclose(summary["mean"], GROUPS["posterior"]["w"].mean(("chain", "draw")), rtol=1e-9)


def test_a_missing_group_raises():
    with pytest.raises(ValueError, match=r"expected ArviZ data with a group 'prior', got groups \['posterior', 'log_"):
        boundary.group(boundary.from_groups(GROUPS), "prior")


@pytest.mark.parametrize("data", [3, {"posterior": 1}, xr.Dataset()], ids=lambda d: type(d).__name__)
def test_anything_else_raises(data):
    with pytest.raises(ValueError, match=rf"expected ArviZ data .* got {type(data).__name__}"):
        boundary.group_names(data)


def test_an_xarray_tree_is_arviz_data_too():
    tree = xr.DataTree.from_dict(GROUPS)
    assert boundary.group_names(tree) == ["posterior", "log_likelihood"]
    xr.testing.assert_equal(boundary.group(tree, "posterior"), GROUPS["posterior"])


def test_a_file_is_the_same_again_and_can_be_overwritten(tmp_path):
    path = tmp_path / "data.nc"
    for seed in (0, 1):
        data = boundary.from_groups({"posterior": dataset(seed=seed)}, {"seed": seed})
        assert boundary.save(data, path) == path
        back = boundary.load(path)
        xr.testing.assert_equal(boundary.group(back, "posterior"), dataset(seed=seed))
        assert back.attrs["seed"] == seed
    assert [p.name for p in tmp_path.iterdir()] == ["data.nc"]


def test_a_crash_while_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = boundary.save(boundary.from_groups(GROUPS), tmp_path / "data.nc")
    before = path.read_bytes()
    data = boundary.from_groups(GROUPS)

    def crash(self, target, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(data), "to_netcdf", crash)
    with pytest.raises(OSError, match="disk full"):
        boundary.save(data, path)
    assert path.read_bytes() == before


def test_arrays_become_groups_with_named_and_labelled_dimensions():
    rng = np.random.default_rng(0)
    w, y, draws = rng.normal(size=(4, 50, 3)), rng.normal(size=(5, 2)), rng.normal(size=(4, 50, 5, 2))
    data = boundary.from_arrays(
        posterior={"w": w, "b": w[..., 0]},
        posterior_predictive={"y": draws},
        log_likelihood={"y": draws[..., 0]},  # of both targets together
        observed_data={"y": y},
        dims={"y": ["row", "target"]},
        coords={"target": ["left", "right"]},
        attrs={"method": "NUTS"},
    )
    assert boundary.group_names(data) == ["posterior", "posterior_predictive", "log_likelihood", "observed_data"]
    assert boundary.group(data, "posterior")["w"].dims == ("chain", "draw", "w_dim_0")
    assert boundary.group(data, "log_likelihood")["y"].dims == ("chain", "draw", "row")
    predictive = boundary.group(data, "posterior_predictive")["y"]
    np.testing.assert_array_equal(predictive.sel(target="right", row=3), draws[:, :, 3, 1])
    np.testing.assert_array_equal(boundary.group(data, "observed_data")["y"].sel(target="left"), y[:, 0])
    assert dict(data.attrs) == {"method": "NUTS"}


def test_draws_of_no_chain_are_stored_as_one_and_said_so():
    """Both versions summarise them and take their leave-one-out; without a chain 1.x does neither."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(200, 2))
    data = boundary.from_arrays(posterior={"w": w}, log_likelihood={"y": np.sin(w)}, chains=False)
    assert boundary.group(data, "posterior").sizes == {"chain": 1, "draw": 200, "w_dim_0": 2}
    assert data.attrs["sampling"] == "independent draws, stored as one chain"
    np.testing.assert_allclose(az.summary(data, kind="stats", round_to="none")["mean"], w.mean(0), rtol=1e-9)
    assert np.isfinite(az.loo(data).se)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected at least one group"),
        ({"posterior": 3}, "expected posterior as values by name, .* got int"),
        ({"posterior": None}, "expected posterior as values by name, .* got NoneType"),
        ({"posterior": {"w": np.zeros((4, 5))}, "dims": ["w"]}, "expected dims as values by name, .* got list"),
        ({"observed_data": {"y": np.ma.masked_all(3)}}, r"expected observed_data\['y'\] without a mask"),
        ({"posterior": {"w": np.zeros(3)}}, r"expected posterior\['w'\] of shape \(chain, draw, ...\), got \(3,\)"),
        (
            {"posterior": {"w": np.zeros((4, 5, 3))}, "dims": {"w": ["a", "b"]}},
            r"dimensions \['a', 'b'\], got \(4, 5, 3",
        ),
        ({"posterior": {"w": np.zeros((4, 5)), "b": np.zeros((4, 6))}}, r"of one length in each dimension, got b .*6"),
        (
            {"posterior": {"w": np.zeros((4, 5, 3))}, "coords": {"w_dim_0": [1]}},
            "of one length in each dimension, got w",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        boundary.from_arrays(**settings)


def autoregressive(coefficient: float, seed: int = 0) -> xr.DataArray:
    """Chains of an AR(1) of variance one, (chain, draw, row)."""
    noise = np.random.default_rng(seed).normal(size=(4, 2000, 3))
    values = noise.copy()
    for draw in range(1, values.shape[1]):
        values[:, draw] = coefficient * values[:, draw - 1] + math.sqrt(1 - coefficient**2) * noise[:, draw]
    return xr.DataArray(values, dims=("chain", "draw", "row"), name="f")


def test_statistics_of_draws_agree_with_closed_forms():
    """An AR(1) of coefficient a is worth (1 - a)/(1 + a) of its draws; a tolerance is five of its errors."""
    draws = autoregressive(0.6)
    effective = 8000 * 0.4 / 1.6
    np.testing.assert_allclose(boundary.ess(draws, method="mean"), effective, rtol=0.15)
    np.testing.assert_allclose(boundary.mcse(draws), math.sqrt(1 / effective), rtol=0.1)
    assert float(boundary.rhat(draws).max()) < 1.01
    error = 5 * stats.norm.pdf(1.2816) ** -1 * math.sqrt(0.9 * 0.1 / (effective / 2))
    np.testing.assert_allclose(boundary.hdi(draws, 0.8), [[-1.2816, 1.2816]] * 3, atol=error)
    assert float(boundary.rhat(draws + xr.DataArray([0, 0, 0, 2.0], dims="chain")).min()) > 1.1
    # Steps of variance 2 (1 - a) in a variance of 1.
    np.testing.assert_allclose(boundary.bfmi(draws.isel(row=0, drop=True)), 0.8, rtol=0.1)


@pytest.mark.parametrize("function", [boundary.rhat, boundary.ess, boundary.mcse, lambda v: boundary.hdi(v, 0.5)])
def test_a_dataset_gives_a_dataset_and_an_array_an_array(function):
    draws = autoregressive(0.0)
    as_dataset, as_array = function(draws.to_dataset()), function(draws)
    assert isinstance(as_dataset, xr.Dataset)
    xr.testing.assert_equal(as_dataset["f"], as_array)
    assert as_array.dims[0] == "row"
    assert as_array.name == "f"


def test_methods_take_their_probabilities():
    draws = autoregressive(0.0)
    tail = boundary.ess(draws, method="tail")
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=(0.05, 0.95)), tail)
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=np.array([0.05, 0.95])), tail)
    xr.testing.assert_equal(boundary.ess(draws, method="tail", prob=0.05), tail)
    np.testing.assert_allclose(boundary.ess(draws, method="quantile", prob=0.3), 8000, rtol=0.15)
    assert bool((boundary.ess(draws, method="local", prob=(0.0, 0.1)) > 4000).all())
    half = boundary.mcse(draws, method="quantile", prob=np.float64(0.5))
    xr.testing.assert_equal(half, boundary.mcse(draws, method="median"))


def test_an_energy_that_stands_still_has_no_bfmi():
    """0.1 has a variance in floats, by the rounding of its mean."""
    energy = autoregressive(0.0)[..., 0].copy()
    energy[1], energy[2] = 0.1, 3.0
    np.testing.assert_array_equal(boundary.bfmi(energy).isnull(), [False, True, True, False])


DRAWS = autoregressive(0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boundary.rhat(np.zeros((4, 10))), "dimensions chain and draw, got ndarray"),
        (lambda: boundary.ess(xr.DataArray(np.zeros((4, 10)), dims=("chain", "x"))), r"got \('chain', 'x'\)"),
        (lambda: boundary.rhat(DRAWS, method="x"), "expected method to be one of 'rank', 'split', .* got 'x'"),
        (lambda: boundary.rhat(DRAWS + 0j), "expected real numbers as f, got complex128"),
        (lambda: boundary.rhat(DRAWS.astype(str).to_dataset()), "expected real numbers as f, got <U"),
        (lambda: boundary.ess(DRAWS, method="x"), "expected method to be one of 'bulk', 'tail', 'mean', .* got 'x'"),
        (
            lambda: boundary.ess(DRAWS, method="quantile"),
            r"prob of 1 numbers in \[0, 1\] for the method 'quantile', got N",
        ),
        (lambda: boundary.ess(DRAWS, method="local", prob=0.5), "prob of 2 numbers in .* 'local', got 0.5"),
        (lambda: boundary.ess(DRAWS, method="mean", prob=0.5), "prob of 0 numbers in .* 'mean', got 0.5"),
        (lambda: boundary.ess(DRAWS, method="quantile", prob=1.5), "for the method 'quantile', got 1.5"),
        (lambda: boundary.ess(DRAWS, method="quantile", prob="a"), "for the method 'quantile', got 'a'"),
        (
            lambda: boundary.mcse(DRAWS, method="bulk"),
            "expected method to be one of 'mean', 'sd', 'median', 'quantile', got 'bulk'",
        ),
        (lambda: boundary.mcse(DRAWS, method="quantile"), "for the method 'quantile', got None"),
        (lambda: boundary.hdi(DRAWS, 94), r"expected prob to be a number in \(0, 1\), got 94"),
        (lambda: boundary.hdi(DRAWS, "a"), r"expected prob to be a number in \(0, 1\), got 'a'"),
        (lambda: boundary.bfmi(np.zeros((4, 10))), "dimensions chain and draw, got ndarray"),
        (lambda: boundary.bfmi(DRAWS[:, :1, 0]), "expected energy of at least 2 draws, got 1"),
        (lambda: boundary.bfmi(DRAWS[..., 0] + 0j), "expected real numbers as f, got complex128"),
        (
            lambda: boundary.bfmi(autoregressive(0.0)),
            r"expected energy with the dimensions chain and draw, got \('chain",
        ),
    ],
)
def test_statistics_of_something_else_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_relative_efficiency_is_that_of_the_posterior_and_one_for_a_single_chain():
    several = boundary.from_groups({"posterior": autoregressive(0.6).to_dataset()})
    assert boundary.relative_efficiency(several) == pytest.approx(0.25, rel=0.15)
    single = boundary.from_groups({"posterior": autoregressive(0.6).isel(chain=[0]).to_dataset()})
    assert boundary.relative_efficiency(single) == 1.0
    broken = boundary.from_groups({"posterior": autoregressive(0.6).to_dataset() * np.nan})
    with pytest.raises(ValueError, match="got reff=nan; pass reff"):
        boundary.relative_efficiency(broken)
    unchained = boundary.from_groups({"posterior": xr.Dataset({"w": ("draw", np.zeros(5))})})
    with pytest.raises(ValueError, match=r"a posterior with the dimensions chain and draw, got \('draw',\); pass reff"):
        boundary.relative_efficiency(unchained)


# Importance ratios as they come: from harmless to hopeless, ties of draws that a sampler repeated, rounded values.
RATIOS = {
    "equal but for rounding": lambda rng, s: 1e-9 * rng.normal(size=s),
    "light": lambda rng, s: 0.1 * rng.normal(size=s),
    "bounded": lambda rng, s: rng.uniform(size=s),
    "middle": lambda rng, s: rng.normal(size=s),
    "heavy": lambda rng, s: rng.exponential(0.9, size=s),
    "very heavy": lambda rng, s: 5 * rng.normal(size=s),
    "student": lambda rng, s: rng.standard_t(2, size=s),
    "repeated": lambda rng, s: np.repeat(rng.normal(size=s // 2 + 1), 2)[:s],
    "rounded": lambda rng, s: rng.normal(size=s).round(1),
}


@pytest.mark.parametrize("reff", [0.2, 1.0, 1.4])
@pytest.mark.parametrize("draws", [25, 100, 1000, 4000])
def test_smoothing_many_observations_at_once_is_arviz_one_by_one(draws, reff):
    rng = np.random.default_rng(draws)
    ratios = np.stack([make(rng, draws) for make in RATIOS.values()])
    log_weights, k = boundary.psislw(ratios, reff)
    np.testing.assert_allclose(logsumexp(log_weights, axis=1), 0, atol=1e-12)
    for name, ratio, found, shape in zip(RATIOS, ratios, log_weights, k, strict=True):
        with np.errstate(all="ignore"):
            if boundary.HAS_INFERENCE_DATA:
                expected, of_arviz = az.psislw(ratio, reff)
            else:
                expected, of_arviz = xr.DataArray(-ratio, dims="s").azstats.psislw(r_eff=reff, dim="s")
        assert shape == pytest.approx(float(of_arviz) if np.isfinite(of_arviz) else np.inf, rel=1e-9, abs=1e-9), name
        # Equal ratios may take each other's place.
        np.testing.assert_allclose(np.sort(found), np.sort(np.asarray(expected)), rtol=1e-9, atol=1e-9, err_msg=name)


def test_weights_whose_tail_cannot_be_fitted_stay_and_their_k_is_infinite():
    """In both versions: ArviZ 1.x raises for equal weights, and 0.23 calls a span beyond the floats a k of 0.04."""
    rng = np.random.default_rng(0)
    ratios = np.stack([np.zeros(1000), 400 * rng.normal(size=1000), rng.normal(size=1000)])
    log_weights, k = boundary.psislw(ratios)
    np.testing.assert_array_equal(np.isinf(k), [True, True, False])
    np.testing.assert_allclose(log_weights[0], -math.log(1000), rtol=1e-12)
    np.testing.assert_allclose(log_weights[1], ratios[1] - logsumexp(ratios[1]), rtol=1e-12)
    assert np.isinf(boundary.psislw(ratios[:, :20])[1]).all()


@pytest.mark.parametrize(
    ("ratios", "reff", "message"),
    [
        (np.array([[0.0, np.nan]]), 1.0, "expected finite log_ratios, got 1 of 2"),
        (np.array([[0.0, np.inf]]), 1.0, "expected finite log_ratios, got 1 of 2"),
        (np.zeros(5), 1.0, r"expected log_ratios of shape \(N, S\), got \(5,\)"),
        (np.zeros((1, 5), complex), 1.0, "expected real numbers as log_ratios, got complex128"),
        (np.ma.masked_all((1, 5)), 1.0, "expected log_ratios without a mask"),
        (np.zeros((1, 5)), 0.0, "expected reff to be a finite number above 0, got 0.0"),
        (np.zeros((1, 5)), "a", "expected reff to be a finite number above 0, got 'a'"),
    ],
)
def test_ratios_that_are_not_finite_are_refused(ratios, reff, message):
    with pytest.raises(ValueError, match=message):
        boundary.psislw(ratios, reff)


def log_likelihood_data(seed: int = 0) -> tuple[np.ndarray, object]:
    rng = np.random.default_rng(seed)
    y, mean = rng.normal(size=30), rng.normal(scale=30**-0.5, size=(4, 250, 1))
    values = stats.norm.logpdf(y, y.mean() + mean)
    data = {"posterior": {"mean": mean}, "log_likelihood": {"y": values, "z": values - 1}, "observed_data": {"y": y}}
    return values.reshape(1000, 30), boundary.from_arrays(**data, dims={"y": ["row"]})


def test_waic_is_the_textbook_formula_where_there_is_one():
    values, data = log_likelihood_data()
    if not boundary.HAS_INFERENCE_DATA:
        with pytest.raises(ValueError, match=r"expected ArviZ 0.23 for WAIC, got 1.*: use loo"):
            boundary.waic(data, var_name="y")
        return
    found = boundary.waic(data, var_name="y")
    penalty = values.var(0)
    expected = logsumexp(values, axis=0) - math.log(1000) - penalty
    np.testing.assert_allclose(found["elpd"], expected, rtol=1e-9)
    assert found["elpd"].dims == ("row",)
    np.testing.assert_allclose(found["p_waic"], penalty.sum(), rtol=1e-9)
    np.testing.assert_allclose(found["elpd_waic"], expected.sum(), rtol=1e-9)
    with pytest.raises(ValueError, match="expected var_name to be one of 'y', 'z', got None"):
        boundary.waic(data)


def test_an_elpd_is_read_back_as_it_was_made_and_so_is_that_of_arviz():
    rng = np.random.default_rng(0)
    elpd, k = (xr.DataArray(rng.normal(size=20), dims="row") for _ in range(2))
    back = boundary.read_elpd(boundary.elpd_data(elpd, n_samples=50, p=2.5, pareto_k=k, good_k=0.6))
    np.testing.assert_array_equal(back["elpd"], elpd)
    np.testing.assert_array_equal(back["pareto_k"], k)
    assert float(back["p"]) == 2.5
    assert back.attrs == {"num_draws": 50, "threshold": 0.6}
    assert "pareto_k" not in boundary.read_elpd(boundary.elpd_data(elpd, n_samples=50))
    _, data = log_likelihood_data()
    theirs = boundary.read_elpd(az.loo(data, pointwise=True, var_name="y"))
    assert theirs["elpd"].dims == ("row",)
    assert theirs.attrs["threshold"] == pytest.approx(1 - 1 / 3)
    assert boundary.read_elpd(elpd) is None
    with pytest.raises(ValueError, match="expected ELPDData made with pointwise=True"):
        boundary.read_elpd(az.loo(data, pointwise=False, var_name="y"))


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")  # ArviZ 0.23 with pandas 4
def test_held_out_scores_are_compared_by_arviz():
    """The better model first, their difference and its standard error as computed by hand."""
    rng = np.random.default_rng(0)
    scores = {name: xr.DataArray(rng.normal(mean, 1.0, 100), dims="row") for name, mean in (("a", -2), ("b", -1))}
    elpd = {name: boundary.elpd_data(value, n_samples=50) for name, value in scores.items()}
    table = az.compare(elpd, **({"method": "BB-pseudo-BMA"} if boundary.HAS_INFERENCE_DATA else {"round_to": "none"}))
    assert list(table.index) == ["b", "a"]
    column = "elpd_loo" if "elpd_loo" in table else "elpd"
    np.testing.assert_allclose(table.loc["a", column], scores["a"].sum(), rtol=1e-3)
    difference = (scores["b"] - scores["a"]).values
    np.testing.assert_allclose(abs(table.loc["a", "elpd_diff"]), difference.sum(), rtol=1e-2)
    np.testing.assert_allclose(table.loc["a", "dse"], np.sqrt(100 * difference.var()), rtol=5e-2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dims": {"w": ["obs"], "v": ["obs"]}}, r"expected dims of the variables \['w'\], got others: \['v'\]"),
        ({"coords": {"osb": [1, 2]}}, r"expected coords of the dimensions .*'w_dim_0'.*, got others: \['osb'\]"),
    ],
)
def test_names_that_fit_nothing_are_refused(more, message):
    """A mistyped one would leave its dimension without labels."""
    with pytest.raises(ValueError, match=message):
        boundary.from_arrays(posterior={"w": np.zeros((2, 5, 2))}, **more)
