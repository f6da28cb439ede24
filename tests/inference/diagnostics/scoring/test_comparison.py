import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from posterity.inference.arviz import HAS_INFERENCE_DATA, elpd_data, from_arrays
from posterity.inference.diagnostics.scoring.comparison import compare, to_elpd
from posterity.inference.diagnostics.scoring.loo import loo

COLUMNS = ["rank", "elpd", "p", "elpd_diff", "weight", "se", "dse", "warning", "n_bad", "scale"]


def fitted(sd: float, n: int = 60) -> object:
    """A normal mean of noise ``sd``, to data of noise 1, from its exact posterior."""
    y = np.random.default_rng(0).normal(size=n)
    mean = np.random.default_rng(1).normal(y.mean(), sd / math.sqrt(n), (1, 1000, 1))
    return from_arrays(posterior={"mean": mean}, log_likelihood={"y": stats.norm.logpdf(y, mean, sd)})


def scored(values: np.ndarray, dim: str = "obs", first: int = 0) -> xr.Dataset:
    return xr.Dataset({"log_score": (dim, values)}, coords={dim: np.arange(first, first + len(values))})


MODELS = {"wide": fitted(2.0), "right": fitted(1.0), "narrow": fitted(0.7)}


def arvizs_table(models: dict, method: str):
    if HAS_INFERENCE_DATA:
        table = az.compare(models, method=method, ic="loo", **({"seed": 124} if method == "BB-pseudo-BMA" else {}))
        table["elpd_diff"] *= -1
        return table.rename(columns={"elpd_loo": "elpd", "p_loo": "p"})
    return az.compare(models, method=method, round_to="none")


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")  # ArviZ 0.23 with pandas 4
@pytest.mark.parametrize("method", ["stacking", "pseudo-BMA", "BB-pseudo-BMA"])
def test_the_table_is_arvizs_own_under_one_set_of_names(method):
    table, theirs = compare(MODELS, method=method), arvizs_table(MODELS, method)
    assert list(table.columns) == COLUMNS
    assert list(table.index) == list(theirs.index)
    assert table.index[0] == "right"
    for column in ("rank", "elpd", "p", "elpd_diff", "dse"):
        np.testing.assert_allclose(table[column].astype(float), theirs[column].astype(float), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(table["weight"].astype(float), theirs["weight"].astype(float), atol=1e-4)
    if method != "BB-pseudo-BMA":  # which puts the bootstrap's error in its place
        unbiased = math.sqrt(60 / 59) if HAS_INFERENCE_DATA else 1.0
        np.testing.assert_allclose(table["se"].astype(float), unbiased * theirs["se"].astype(float), rtol=1e-8)
    assert (table["scale"] == "log").all()
    assert not table["warning"].any()


def test_stacking_finds_the_shares_of_a_mixture_of_two():
    """30 % of the data are of one model and 70 % of the other: within 4 standard errors of those shares."""
    rng, n = np.random.default_rng(0), 4000
    y = np.where(rng.random(n) < 0.3, rng.normal(-3, 1, n), rng.normal(3, 1, n))
    table = compare({"left": scored(stats.norm.logpdf(y, -3)), "right": scored(stats.norm.logpdf(y, 3))})
    assert table.loc["left", "weight"] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / n))


def test_an_outlier_that_no_model_expected_does_not_decide_the_weights():
    """At -2000 nats each density is 0 in floating point, and its logarithm would be all that counts."""
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(-1, 0.5, 200) for name in ("a", "b")}
    before = compare({name: scored(values) for name, values in scores.items()})
    after = compare({name: scored(np.append(values, -2000.0)) for name, values in scores.items()})
    np.testing.assert_allclose(after["weight"].astype(float), before["weight"].astype(float), atol=1e-6)
    np.testing.assert_allclose(after["elpd"].astype(float), before["elpd"].astype(float) - 2000, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:10 draws have no tail")
def test_every_kind_of_result_is_taken_and_bad_k_are_counted():
    right = loo(MODELS["right"])
    few = from_arrays(posterior={"w": np.zeros((1, 10))}, log_likelihood={"y": np.full((1, 10, 60), -2.0)})
    table = compare(
        {
            "data": MODELS["right"],
            "loo": right,
            "elpd": to_elpd(right),
            "arviz": az.loo(MODELS["right"], pointwise=True),
            "held out": elpd_data(right.elpd, n_samples=1),
            "scores": scored(right.elpd.values, "y_dim_0"),
            "few": few,
        }
    )
    same = table.drop("few")
    np.testing.assert_allclose(same["elpd"].astype(float), float(right.elpd_loo), rtol=1e-10)
    assert set(same.index[same["p"].isna()]) == {"held out", "scores"}
    assert dict(table["n_bad"]) == {name: 60 if name == "few" else 0 for name in table.index}
    assert list(table.index[table["warning"]]) == ["few"]


@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        ({"a": scored(np.zeros(5))}, {}, "expected at least 2 models by name, got 1"),
        ([scored(np.zeros(5))] * 2, {}, "expected at least 2 models by name, got list"),
        (
            {"a": scored(np.zeros(5)), "b": scored(np.zeros(6))},
            {},
            r"same observations, got 'a' of {'obs': 5} and 'b' of",
        ),
        (
            {"a": scored(np.zeros(5)), "b": scored(np.zeros(5), first=1)},
            {},
            "same observations, got other 'obs' in 'a'",
        ),
        ({"a": scored(np.zeros(5)), "b": xr.Dataset({"pit": 1.0})}, {}, r"expected 'b' as loo\(\) .* got \['pit'\]"),
        ({"a": scored(np.zeros(5)), "b": 3}, {}, "expected ArviZ data .* got int"),
        ({"a": scored(np.zeros(2)), "b": scored(np.array([0, -np.inf]))}, {}, "finite elpd of 'b', got 1 of 2"),
        (
            {"a": scored(np.zeros(5)), "b": scored(np.ones(5))},
            {"method": "bma"},
            r"expected method to be one of 'stacking'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_that_cannot_be_compared_are_refused(models, settings, message):
    with pytest.raises(ValueError, match=message):
        compare(models, **settings)


def test_an_elpd_is_made_of_a_result_of_loo_alone():
    with pytest.raises(ValueError, match=r"expected a Dataset as loo\(\) returns, got \['log_score'\]"):
        to_elpd(scored(np.zeros(5)))
