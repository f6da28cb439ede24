"""Classes by name, and probabilities near the exact ones."""

import numpy as np
import pytest

from posterity.inference import HMC
from posterity.inference.estimators import BayesianClassifier, log_score_scorer


def test_classes_keep_their_names_and_probabilities_are_calibrated():
    """A logistic truth: the mean log score is near that of the exact probabilities."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 2))
    exact = 1 / (1 + np.exp(-2 * x[:, 0]))
    y = np.where(generator.random(400) < exact, "yes", "no")
    model = BayesianClassifier(hidden=(4,), method=HMC(chains=4, warmup=150, draws=50, progress=False), random_state=0)
    model.fit(x[:200], y[:200])
    assert list(model.classes_) == ["no", "yes"]
    probabilities = model.predict_proba(x[200:])
    assert np.allclose(probabilities.sum(1), 1)
    best = np.log(np.where(y[200:] == "yes", exact[200:], 1 - exact[200:])).mean()
    assert log_score_scorer(model, x[200:], y[200:]) == pytest.approx(best, abs=0.06)
    assert model.score(x[200:], y[200:]) > 0.7
    with pytest.raises(ValueError, match=r"expected classes of the training, \['no', 'yes'\], got \['maybe'\]"):
        log_score_scorer(model, x[:1], ["maybe"])
