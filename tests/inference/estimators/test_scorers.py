"""Scores in pipelines, searches and cross-validation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from posterity.inference.estimators import (
    BayesianClassifier,
    BayesianRegressor,
    coverage_scorer,
    crps_scorer,
    log_score_scorer,
)
from tests.inference.estimators.cases import QUICK, wave


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pipelines_searches_and_cross_validation():
    x, y = wave(90)
    pipe = make_pipeline(StandardScaler(), BayesianRegressor(hidden=(6,), method=QUICK, random_state=0))
    for scorer in (None, log_score_scorer, crps_scorer, coverage_scorer(0.9)):
        values = cross_val_score(pipe, x, y, cv=3, scoring=scorer)
        assert np.isfinite(values).all()
    assert np.allclose(cross_val_score(pipe, x, y, cv=3), cross_val_score(pipe, x, y, cv=3, scoring=log_score_scorer))
    search = GridSearchCV(pipe, {"bayesianregressor__hidden": [(2,), (8,)]}, cv=2).fit(x, y)
    assert search.best_params_["bayesianregressor__hidden"] in [(2,), (8,)]


def test_scores_are_those_of_the_diagnostics():
    """The CRPS of a normal in closed form (Gneiting et al. 2005), and the share of y inside central intervals."""
    x, y = wave(60)
    model = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(x, y)
    mean, sd = model.predict(x, return_std=True)  # a posterior mode: one normal
    z = (y - mean) / sd
    crps = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert crps_scorer(model, x, y) == pytest.approx(-crps.mean(), rel=1e-4)
    assert log_score_scorer(model, x, y) == pytest.approx(norm.logpdf(y, mean, sd).mean(), rel=1e-4)
    inside = np.mean(np.abs(z) < norm.ppf(0.9))
    assert coverage_scorer(0.8)(model, x, y) == pytest.approx(-abs(inside - 0.8), abs=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_targets_as_one_column_have_the_scores_of_a_vector():
    x, y = wave(40)
    model = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(x, y)
    classes = BayesianClassifier(hidden=(2,), method=QUICK, random_state=0).fit(x, y > 0)
    scorers = (lambda model, x, y: model.score(x, y), log_score_scorer, crps_scorer, coverage_scorer(0.9))
    for scorer in scorers:
        for column in (pd.DataFrame({"y": y}), y[:, None]):
            assert scorer(model, x, column) == scorer(model, x, y)
        with pytest.raises(ValueError, match="expected y with 40 values, one for each row of X, got 1"):
            scorer(model, x, y[:1])
        with pytest.raises(ValueError, match="should be a 1d array"):
            scorer(model, x, np.stack([y, y], 1))
    assert log_score_scorer(classes, x, pd.DataFrame({"y": y > 0})) == log_score_scorer(classes, x, y > 0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        log_score_scorer(classes, x, y[:1] > 0)
