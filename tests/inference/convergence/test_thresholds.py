"""How much of R-hat chance alone explains."""

import numpy as np
import pytest

from posterity.inference.convergence.statistics import rhat_by_chance
from posterity.inference.convergence.thresholds import CHANCE, RHAT, RHAT_EXCUSED, chance_of


def test_chance_explains_nothing_where_rhat_is_small_or_too_large():
    values = np.random.default_rng(0).normal(size=(4, 50, 2))
    assert chance_of(values, np.array([1.0, RHAT - 1e-6])) == 1
    assert chance_of(values, np.array([1.0, RHAT_EXCUSED])) == 1


def test_chance_is_that_of_the_worst_of_all_points():
    values = np.random.default_rng(1).normal(size=(4, 400, 3))
    found = chance_of(values, np.array([1.02, 1.05, 1.03]))
    assert found == rhat_by_chance(values[..., 1], 3, CHANCE)
    assert 1 < found < RHAT_EXCUSED


@pytest.mark.parametrize("draws", [8, 2000])
def test_the_fewer_draws_the_more_is_chance_but_never_above_the_limit(draws):
    values = np.random.default_rng(2).normal(size=(4, draws, 1))
    found = chance_of(values, np.array([1.02]))
    assert found == RHAT_EXCUSED if draws == 8 else 1 < found < 1.02
