"""Shared scores of the examples of mixture density networks."""

import numpy as np
import pytest

from posterity.data import bishop
from tests.examples_run import script


def test_the_exact_density_has_no_excess_and_a_constant_loss_is_one() -> None:
    test = bishop(50, "normal", 0.05, seed=0)
    exact = test.oracle_log_prob().double().numpy()
    with script("_mdn") as module:
        assert np.abs(module.excess(exact, test)).max() == 0
        assert module.excess(exact - 0.3, test) == pytest.approx(0.3)


def test_means_have_the_standard_error_of_independent_values() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    error = np.sqrt(((np.array(values) - 3.0) ** 2).sum() / 3 / 4)
    with script("_mdn") as module:
        assert module.mean_and_error("a", values) == pytest.approx({"a": 3.0, "a_se": error})
        assert module.mean_and_error("a", values[:1]) == {}
        assert module.standard_error(values) == pytest.approx(error)


def test_bonferroni_multiplies_the_smallest_p_value_by_the_number_of_tests() -> None:
    with script("_mdn") as module:
        assert module.bonferroni([0.2, 0.01, 0.5]) == pytest.approx(0.03)
        assert module.bonferroni([0.9, 0.8]) == 1.0
