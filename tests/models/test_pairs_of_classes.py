"""Bayesian classification against quadrature, and bad input."""

import pytest
import torch

from posterity.data import Observations, Standardization
from posterity.inference import HMC, infer
from posterity.models import bayesian_classification, priors

X = torch.linspace(-2, 2, 12)[:, None]
Y = torch.tensor([0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1])


SCALE = Standardization.fit(Observations(X, Y))


def test_without_hidden_layers_it_is_logistic_regression():
    """Probabilities by HMC (seed 0) within 5 standard errors of a sum over slope and intercept of the log odds."""
    unit = Standardization(torch.zeros(1), torch.ones(1), torch.zeros(()), torch.ones(()))
    pair = bayesian_classification(unit, 2, hidden=(), prior=priors.Normal(scale=1.5))
    sampler = HMC(chains=16, warmup=200, draws=500, threads=1, progress=False)
    posterior = infer(pair, X, Y, method=sampler, seed=0)
    axis = torch.linspace(-9, 9, 601, dtype=torch.double)
    slope, intercept = torch.meshgrid(axis, axis, indexing="ij")
    weight = -0.5 * (slope**2 + intercept**2) / (2 * 1.5**2)  # the difference of two normals
    for x, y in zip(X[:, 0].double(), Y, strict=True):
        odds = slope * x + intercept
        weight = weight + torch.nn.functional.logsigmoid(odds if y else -odds)
    weight = weight.flatten().softmax(0).reshape(slope.shape)
    probabilities = posterior.likelihood(X).probs[..., 1].double()
    for row, x in enumerate(X[:, 0].double()):
        exact = float((weight * torch.sigmoid(slope * x + intercept)).sum())
        error = float(probabilities[:, row].std()) / 2000**0.5  # at least 2,000 of the 8,000 draws count
        assert float(probabilities[:, row].mean()) == pytest.approx(exact, abs=5 * error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bayesian_classification(SCALE, 1), "classes"),
        (lambda: bayesian_classification(None, 2), "expected scale to be a Standardization"),
        (lambda: bayesian_classification(SCALE, 2, guide="no"), "guide"),
        (lambda: bayesian_classification(SCALE, 2, hidden=(0,)), "widths"),
        (lambda: bayesian_classification(SCALE, 2, activation="no"), "activation"),
        (
            lambda: bayesian_classification(SCALE, 2).model(torch.zeros(3)),
            r"expected x of shape \(N, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
