"""The classifier test on samples whose best AUC is known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from posterity.inference.adversarial.metrics import classifier_test


def normals(n: int, shift: float, seed: int) -> torch.Tensor:
    found = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    found[:, 0] += shift
    return found


class OneColumn:
    """A classifier whose fit returns nothing, and whose probabilities have one column."""

    def fit(self, x: object, y: object) -> None:
        pass

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), 0.5)


def test_equal_samples_have_half() -> None:
    """Ten pairs of equal distributions, seeds 0 to 19: AUCs within their errors, p-values not small."""
    tests = [
        classifier_test(normals(400, 0, 2 * s), normals(400, 0, 2 * s + 1), seed=s, bootstrap=50) for s in range(10)
    ]
    pulls = torch.tensor([(test.auc - 0.5) / test.auc_se for test in tests])
    assert abs(float(pulls.mean())) < 4 / math.sqrt(10)
    assert float(pulls.abs().max()) < 4
    assert sum(test.p_value < 0.05 for test in tests) <= 3
    assert max(test.jsd for test in tests) < 0.1


def test_the_best_classifier_of_shifted_normals_is_reached() -> None:
    """Logistic regression is the best classifier of two normals: AUC Phi(d / sqrt 2); seed 5."""
    test = classifier_test(
        normals(20_000, 1.0, 0), normals(20_000, 0.0, 1), seed=5, classifier=lambda seed: LogisticRegression()
    )
    assert test.auc == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=4 * test.auc_se)
    assert test.auc_se == pytest.approx(0.0034, rel=0.3)
    # The divergence by quadrature over the logit d (x - d / 2).
    x = torch.linspace(-8, 9, 20_001, dtype=torch.double)
    p, q = torch.exp(-((x - 1) ** 2) / 2), torch.exp(-(x**2) / 2)
    jsd = float((p * (2 * p / (p + q)).log2() + q * (2 * q / (p + q)).log2()).sum() / (p.sum() + q.sum()))
    assert test.jsd == pytest.approx(jsd, abs=0.012)


def test_separate_samples_are_told_apart() -> None:
    test = classifier_test(normals(200, 0, 0), normals(200, 20, 1), seed=0)
    assert test.auc == 1
    assert test.jsd > 0.8
    assert test.p_value < 1e-20


def test_small_samples_are_told_apart_too() -> None:
    """20 rows are the fewest; trees with 20 rows in a leaf would not split them."""
    test = classifier_test(normals(20, 0, 0), normals(20, 100, 1), seed=0)
    assert test.auc == 1
    assert test.p_value < 1e-3


def test_the_same_seed_repeats_the_test() -> None:
    x, y = normals(100, 0, 0), normals(100, 0.5, 1)
    assert classifier_test(x, y, seed=3, bootstrap=20) == classifier_test(x, y, seed=3, bootstrap=20)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"real": torch.ones(5, 2)}, "expected real of at least 20 rows, got 5"),
        ({"fake": torch.ones(50, 3)}, "the same number of features"),
        ({"seed": -1}, "seed"),
        ({"tested": 1.0}, "tested"),
        ({"bootstrap": 1}, "bootstrap"),
        ({"classifier": 3}, "classifier"),
        (
            {"classifier": lambda seed: None},
            "classifier to return an object with fit and predict_proba, got None",
        ),
        ({"classifier": lambda seed: OneColumn()}, r"predict_proba of the classifier to return shape \(25, 2\), got"),
    ],
)
def test_bad_arguments_are_refused(changes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        classifier_test(**{"real": normals(50, 0, 0), "fake": normals(50, 0, 1), "seed": 0} | changes)
