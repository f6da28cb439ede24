"""Data and a short method for the tests of estimators."""

import numpy as np

from posterity.inference import SVI
from posterity.inference.estimators import BayesianRegressor

QUICK = SVI(guide="map", steps=60, learning_rate=0.05, progress=False)


def wave(n=120, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 2, (n, 2))
    return x, np.sin(2 * x[:, 0]) + 0.1 * generator.normal(size=n)


def quick(x, y):
    return BayesianRegressor(hidden=(3,), method=QUICK, random_state=0).fit(x, y)
