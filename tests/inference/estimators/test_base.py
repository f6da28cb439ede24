"""What all estimators share: scikit-learn's own checks, methods by name, frames, pickling, bad settings."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from posterity.inference import HMC, NUTS, SVI, Ensemble
from posterity.inference.estimators import (
    BayesianClassifier,
    BayesianRegressor,
    MixtureDensityRegressor,
    coverage_scorer,
    crps_scorer,
)
from posterity.inference.estimators.base import METHODS
from tests.inference.estimators.cases import QUICK, quick, wave


@parametrize_with_checks(
    [
        BayesianRegressor(hidden=(8,), method=QUICK, random_state=0),
        MixtureDensityRegressor(hidden=(8,), method=QUICK, random_state=0),
        BayesianClassifier(hidden=(8,), method=QUICK, random_state=0),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["hmc", "nuts", "svi", "ensemble", "map"])
def test_methods_by_name(name, monkeypatch):
    """The same result as with the object that the name stands for, made short here."""
    short = {
        "hmc": HMC(chains=2, warmup=5, draws=5, max_steps=4, engine="eager", progress=False),
        "nuts": NUTS(chains=2, warmup=5, draws=5, max_tree_depth=2, engine="eager", progress=False),
        "svi": SVI(guide="low_rank", steps=50, progress=False),
        "ensemble": Ensemble(members=3, steps=50, progress=False),
        "map": SVI(guide="map", steps=50, progress=False),
    }[name]
    assert type(METHODS[name](False)) is type(short)
    monkeypatch.setitem(METHODS, name, lambda progress: short)
    x, y = wave(40)
    named, own = (BayesianRegressor(hidden=(4,), method=m, random_state=0).fit(x, y) for m in (name, short))
    assert np.array_equal(named.predict(x), own.predict(x))


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_frames_keep_their_names_and_categories(library):
    x, y = wave(60)
    columns = {"first": x[:, 0], "second": x[:, 1], "site": np.where(x[:, 1] > 0, "north", "south").tolist()}
    model = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(library(columns), y)
    assert list(model.feature_names_in_) == ["first", "second", "site"]
    assert model.table_.names == ("first", "second", "site=north", "site=south")
    as_array = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(model.table_.read(library(columns)), y)
    assert np.array_equal(model.predict(library(columns)), as_array.predict(model.table_.read(library(columns))))
    holes = {name: [None, *values[1:]] for name, values in columns.items()}
    with pytest.raises(ValueError, match="expected no missing values in column 'first', got 1"):
        model.predict(library(holes))


def test_a_constant_column_is_left_out():
    x, y = wave(50)
    more = np.column_stack([x[:, 0], np.full(50, 7.0), x[:, 1]])
    with_it = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(more, y)
    assert with_it.kept_.tolist() == [True, False, True]
    assert np.array_equal(
        with_it.predict(more), BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(x, y).predict(x)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: BayesianRegressor(method="gibbs").fit(x, y), "expected method"),
        (lambda x, y: BayesianRegressor(method=SVI).fit(x, y), "expected method to be one of"),
        (lambda x, y: BayesianRegressor(missing="drop").fit(x, y), "missing"),
        (lambda x, y: with_categories(x, y).predict(x), r"expected a frame with the columns \['a', 'b'\]"),
        (lambda x, y: BayesianRegressor(draws=0).fit(x, y), "draws"),
        (lambda x, y: BayesianRegressor(noise="none").fit(x, y), "noise"),
        (lambda x, y: BayesianRegressor(method=QUICK).fit(x, 0 * y), "expected y that varies"),
        (lambda x, y: BayesianRegressor(method=QUICK).fit(0 * x, y), "expected a column of X that varies, got 2"),
        (lambda x, y: BayesianClassifier(method=QUICK).fit(x, ["a"] * len(x)), "expected at least two classes in y"),
        (lambda x, y: quick(x, y).predict_interval(x, 1.5), "level"),
        (lambda x, y: quick(x, y).predict_quantiles(x, [0.5, 1.0]), "expected quantiles in"),
        (lambda x, y: coverage_scorer(2.0), "level"),
        (lambda x, y: crps_scorer(StandardScaler(), x, y), "expected an estimator with predict_distribution"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*wave(20))


def with_categories(x, y):
    frame = pd.DataFrame({"a": x[:, 0], "b": np.where(x[:, 1] > 0, "u", "v")})
    return BayesianRegressor(hidden=(3,), method=QUICK, random_state=0).fit(frame, y)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_progress_is_shown_on_request(name):
    for verbose in (False, True):
        assert BayesianRegressor(method=name, verbose=verbose)._method().progress is verbose
    with pytest.raises(ValueError, match="expected verbose to be"):
        BayesianRegressor(method=name, verbose=2).fit(*wave())


def test_a_column_that_is_constant_but_for_rounding_is_left_out():
    """The standard deviation of 60 times 0.1 is 1.4e-17."""
    x, y = wave(60)
    model = BayesianRegressor(hidden=(2,), method=QUICK, random_state=0).fit(np.c_[x, np.full(60, 0.1)], y)
    assert model.kept_.tolist() == [True] * x.shape[1] + [False]


@pytest.mark.parametrize("kind", ["mask", "date", "span"])
def test_masks_and_dates_are_refused_in_arrays_and_targets(kind):
    """scikit-learn takes masked values as measured, and dates as nanoseconds since 1970."""
    x, y = wave(30)
    days = np.datetime64("2026-01-01", "D") + np.arange(30)
    bad = {"mask": np.ma.masked_greater(y, 0.5), "date": days, "span": days - days[0]}[kind]
    model = BayesianRegressor(hidden=(2,), method=QUICK, random_state=0)
    message = "expected {} without a mask" if kind == "mask" else "expected numbers in {}, got"
    with pytest.raises(ValueError, match=message.format("X")):
        model.fit(np.ma.array(x, mask=x > 0.5) if kind == "mask" else bad[:, None], y)
    model.fit(x, y)
    with pytest.raises(ValueError, match=message.format("y")):
        model.score(x, bad)
    for target in (bad, pd.Series(bad), pd.DataFrame({"y": bad})) if kind != "mask" else (bad,):
        with pytest.raises(ValueError, match=message.format("y")):
            model.fit(x, target)
