"""The information of components against scikit-learn's, its closed form, and the exact permutation test."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.metrics import mutual_info_score

from posterity.inference.diagnostics import component_information


def test_the_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    components, labels = rng.integers(0, 5, 300), rng.integers(3, 6, 300)
    found = component_information(components, torch.as_tensor(labels), permutations=10)
    assert float(found.information) == pytest.approx(mutual_info_score(components, labels), rel=1e-9)
    assert float(component_information(components, 7 - components, permutations=10).information) == pytest.approx(
        float(component_information(components, components, permutations=10).label_entropy), rel=1e-9
    )


def test_the_p_value_is_that_of_all_permutations():
    """Nine cases: the share of all 9! permutations with as much information; 4 errors of 20,000 draws, seed 0."""
    components, labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 1, 1, 0, 1, 1])
    observed = mutual_info_score(components, labels)
    tables = {}
    for order in permutations(range(9)):
        key = tuple(np.bincount(2 * components + labels[list(order)], minlength=6))
        tables[key] = tables.get(key, 0) + 1
    exact = 0
    for key, count in tables.items():
        table = np.array(key).reshape(3, 2)
        exact += count * (mutual_info_score(None, None, contingency=table) >= observed - 1e-9)
    exact /= sum(tables.values())
    found = float(component_information(components, labels, permutations=20_000, seed=0).p_value)
    assert abs(found - exact) < 4 * (exact * (1 - exact) / 20_000) ** 0.5


def test_p_values_of_independent_cases_are_uniform_and_the_mean_is_the_known_bias():
    rng = np.random.default_rng(1)
    p_values, permuted = [], []
    for seed in range(300):
        found = component_information(rng.integers(0, 4, 200), rng.integers(0, 3, 200), permutations=199, seed=seed)
        p_values.append(float(found.p_value))
        permuted.append(float(found.permuted))
    assert kstest(p_values, "uniform").pvalue > 1e-3
    assert np.mean(permuted) == pytest.approx(3 * 2 / (2 * 200), rel=0.05)


@pytest.mark.parametrize(
    ("components", "labels"), [([0, 1, 2, 1], [1] * 4), ([3] * 4, [0, 1, 0, 1]), ([2] * 4, [5] * 4)]
)
def test_what_never_changes_has_no_information(components, labels):
    """Also a component that always fires, for which SciPy's tables have negative counts."""
    found = component_information(components, labels)
    assert float(found.information) == float(found.permuted) == 0
    assert float(found.p_value) == 1


@pytest.mark.parametrize(
    ("components", "labels", "message"),
    [
        ([0.5, 1.0], [0, 1], r"expected components to be whole numbers of shape \(N,\), N of 2 or more"),
        ([0, 1], [[0, 1]], "expected labels to be whole numbers"),
        ([0, 1, 2], [0, 1], r"expected labels of shape \(3,\), one for each component, got \(2,\)"),
        ([0], [0], "expected components to be whole numbers"),
    ],
)
def test_bad_input_is_named(components, labels, message):
    with pytest.raises(ValueError, match=message):
        component_information(components, labels)
