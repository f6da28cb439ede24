"""Regressors predict what the predictive mixture of their posterior says."""

import pickle

import numpy as np
import pytest
import torch

from posterity.inference import HMC, Ensemble
from posterity.inference.estimators import BayesianRegressor, MixtureDensityRegressor, coverage_scorer, crps_scorer
from tests.inference.estimators.cases import QUICK, wave


def test_a_regressor_predicts_the_distribution_of_its_posterior():
    """Everything that it returns is read from one predictive mixture; after pickling it is the same."""
    x, y = wave()
    model = BayesianRegressor(hidden=(10,), method=HMC(chains=4, warmup=100, draws=50, progress=False), random_state=1)
    model.fit(x, y)
    predictive = model.predict_distribution(x[:7])
    mean, sd = model.predict(x[:7], return_std=True)
    assert np.allclose(mean, predictive.mean)
    assert np.allclose(sd, predictive.stddev)
    assert np.allclose(model.predict_interval(x[:7], 0.8), model.predict_quantiles(x[:7], (0.1, 0.9)))
    assert np.allclose(predictive.cdf(torch.as_tensor(model.predict_quantiles(x[:7], 0.3)[:, 0])), 0.3, atol=1e-4)
    assert model.score(x, y) == pytest.approx(float(model.predict_distribution(x).log_prob(torch.as_tensor(y)).mean()))
    assert model.score(x, y) > 0.3  # the truth scores 0.88 on average
    assert model.posterior_.num_chains == 4
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - made here
    assert np.array_equal(again.predict(x), model.predict(x))
    assert again.posterior_.attrs == model.posterior_.attrs
    assert set(again.posterior_.to_arviz(*again.training_data_).log_likelihood.data_vars) == {"y"}


def test_a_mixture_finds_both_answers():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (300, 1))
    y = np.where(generator.random(300) < 0.5, 1.0, -1.0) + 0.1 * generator.normal(size=300)
    model = MixtureDensityRegressor(components=3, hidden=(8,), method=Ensemble(members=3, steps=600, progress=False))
    predictive = model.set_params(random_state=0).fit(x, y).predict_distribution([[0.0]])
    found = predictive.modes(min_probability=0.2).location[0]
    assert np.allclose(np.sort(found[found.isfinite()]), [-1, 1], atol=0.1)
    assert crps_scorer(model, x, y) > crps_scorer(BayesianRegressor(method=QUICK, random_state=0).fit(x, y), x, y)


def test_units_of_y_change_nothing_else():
    x, y = wave(50)
    first = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(x, y).predict(x)
    other = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(1e3 * x, 1e-6 * y + 5).predict(1e3 * x)
    assert np.allclose((other - 5) * 1e6, first, atol=0.02)


def test_read_only_targets_are_copied_without_a_warning():
    """Columns of frames are read-only in pandas 3; torch warns of them once in a process, here always."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        x, y = wave()
        y.setflags(write=False)
        model = BayesianRegressor(hidden=(4,), method=QUICK, random_state=0).fit(x, y)
        assert np.isfinite([model.score(x, y), crps_scorer(model, x, y), coverage_scorer(0.9)(model, x, y)]).all()
    finally:
        torch.set_warn_always(always)


def test_noise_on_the_data_is_a_setting_of_the_method():
    """Noise of the spread of y itself at least doubles the variance of a linear fit with little noise."""
    x = np.linspace(-1, 1, 60)[:, None]
    method = Ensemble(members=1, steps=300, learning_rate=0.03, noise=(0, 1.0), engine="replay", progress=False)
    model = MixtureDensityRegressor(components=1, hidden=(4,), method=method, random_state=0).fit(x, 3 * x[:, 0])
    assert 0.8 < float(model.predict([[0.0]], return_std=True)[1][0] / np.std(3 * x)) < 1.2
