"""`classifier_test`: can a classifier tell generated from real samples?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import check_samples
from posterity.validation import check_callable, check_integer, check_number, check_seed, shown

MakeClassifier = Callable[[int], Any]  # seed -> a classifier with fit and predict_proba


@dataclass(frozen=True)
class ClassifierTest:
    """Result of `classifier_test`, on the half of the samples that the classifier was not trained on.

    Attributes:
        auc: area under the ROC curve: 0.5 if real and generated samples cannot be told apart, 1 if they always can.
        auc_se: its standard error, by bootstrap over the tested rows; another split or training adds to it.
        jsd: Jensen-Shannon divergence in bits, from 0 to 1, of calibrated probabilities. A lower bound of the true
            divergence on average; with 1,000 tested rows of each kind its error is about 0.02.
        p_value: of the hypothesis of equal distributions, by the Mann-Whitney test of the classifier's scores.
    """

    auc: float
    auc_se: float
    jsd: float
    p_value: float


def classifier_test(
    real: Tensor,
    fake: Tensor,
    *,
    seed: int,
    classifier: MakeClassifier | None = None,
    tested: float = 0.5,
    bootstrap: int = 200,
) -> ClassifierTest:
    """Train a classifier to tell real (N, D) from generated samples (M, D), and test it on other rows.

    The classifier two-sample test of Lopez-Paz & Oquab 2017 (arXiv:1610.06545), with the scores of the CaloChallenge
    (Krause et al. 2024, arXiv:2410.21611, section 4): a generator is as good as its best critic says, so a stronger
    classifier can only raise the AUC. Scale or take logarithms of the features before if the classifier needs it; trees
    do not. Take the value of real samples against other real ones as the null. No row may be in both samples: its copy
    among the training rows has the other label, and the AUC falls below 0.5.

    Args:
        real: real samples.
        fake: generated samples; as many as real ones are best.
        seed: of the split, the classifier and the bootstrap.
        classifier: function of a seed that returns an object with ``fit(x, y)`` and ``predict_proba(x)``; by default
            gradient-boosted trees of scikit-learn.
        tested: share of the rows that are not trained on.
        bootstrap: number of resamples for the standard error.

    Raises:
        ValueError: samples of another shape, fewer than 20 rows, NaN or infinity, or a share outside (0, 1).

    >>> import torch
    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 1000, 2, generator=random)
    >>> test = classifier_test(x, 2 * y, seed=0)
    >>> test.auc > 0.6, test.p_value < 1e-3
    (True, True)
    """
    real, fake = check_samples(real=real, fake=fake)
    for name, sample in (("real", real), ("fake", fake)):
        if len(sample) < 20:
            raise ValueError(f"expected {name} of at least 20 rows, got {len(sample)}")
    check_seed(seed)
    check_number("tested", tested, "(0, 1)")
    check_integer("bootstrap", bootstrap, 2)
    if classifier is not None:
        check_callable("classifier", classifier, "seed")
    random = np.random.default_rng(seed)
    parts = [_split(sample.cpu().numpy(), tested, random) for sample in (fake, real)]
    x = np.concatenate([training for training, _ in parts])
    y = np.repeat([0, 1], [len(training) for training, _ in parts])
    order = random.permutation(len(x))
    model = _trees(seed, len(x)) if classifier is None else classifier(seed)
    if not callable(getattr(model, "fit", None)) or not callable(getattr(model, "predict_proba", None)):
        raise ValueError(f"expected classifier to return an object with fit and predict_proba, got {shown(model)}")
    model.fit(x[order], y[order])
    scores = [_scores(model, held_out) for _, held_out in parts]
    auc, p_value = _area(*scores)
    resampled = [_area(*(random.choice(score, len(score)) for score in scores))[0] for _ in range(bootstrap)]
    return ClassifierTest(auc, float(np.std(resampled, ddof=1)), _divergence(*scores), p_value)


def _trees(seed: int, rows: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # With the usual 20 rows in a leaf, a small sample would not be split at all.
    return HistGradientBoostingClassifier(random_state=seed, min_samples_leaf=max(1, min(20, rows // 10)))


def _scores(model: Any, rows: np.ndarray) -> np.ndarray:
    """The probability of being real (N,)."""
    probabilities = np.asarray(model.predict_proba(rows))
    if probabilities.shape != (len(rows), 2):
        raise ValueError(
            f"expected predict_proba of the classifier to return shape ({len(rows)}, 2), got {probabilities.shape}"
        )
    scores: np.ndarray = probabilities[:, 1]
    return scores


def _split(sample: np.ndarray, tested: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = random.permutation(len(sample))
    count = min(max(round(tested * len(sample)), 5), len(sample) - 5)
    return sample[order[count:]], sample[order[:count]]


def _area(fake: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """AUC of scores, and the two-sided p-value of equal distributions."""
    from scipy.stats import mannwhitneyu

    if np.ptp(np.concatenate([fake, real])) == 0:
        return 0.5, 1.0
    test = mannwhitneyu(real, fake)
    return float(test.statistic) / (len(real) * len(fake)), float(test.pvalue)


def _divergence(fake: np.ndarray, real: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits of scores, calibrated by isotonic regression on the other half of them."""
    halves = [[score[half::2] for score in (fake, real)] for half in (0, 1)]
    return float(np.clip(np.mean([_bits(*halves), _bits(*halves[::-1])]), 0, 1))


def _bits(fit: list[np.ndarray], used: list[np.ndarray]) -> float:
    from sklearn.isotonic import IsotonicRegression

    weights = [np.full(len(score), 1 / len(score)) for score in fit]
    calibrated = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
        np.concatenate(fit), np.repeat([0.0, 1.0], [len(score) for score in fit]), np.concatenate(weights)
    )
    low = 1 / (2 + min(map(len, fit)))  # a bin without one class says no more than that
    p_fake, p_real = (calibrated.predict(score).clip(low, 1 - low) for score in used)
    return float(1 + (np.log2(p_real).mean() + np.log2(1 - p_fake).mean()) / 2)
