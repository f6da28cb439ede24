"""What must not matter to any method of inference: progress bars, order of rows, precision, and rows behind a mask.

Units are in `invariance/test_models.py` (predictions and diagnostics), `inference/training/test_probe.py` (fits) and
`invariance/test_data.py` (loaders); order of rows and masks in diagnostics in `invariance/test_diagnostics.py`.
"""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Ensemble, infer
from posterity.inference.mcmc import reference

ROWS = 40
X = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0]) + 0.5 * torch.randn(ROWS, generator=torch.Generator().manual_seed(1))
ORDER = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
KEPT = torch.arange(ROWS) % 2 == 0


def linear(x, y=None, mask=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("obs", len(x)):
        likelihood = dist.Normal(x @ w, 0.5)
        return pyro.sample("y", likelihood if mask is None else likelihood.mask(mask), obs=y)


def masked(x, y=None):
    """The rows that are not kept have y = -100, and a mask."""
    return linear(x, y, mask=None if y is None else y > -50)


def exact(x, y):
    """Mean and covariance of w."""
    covariance = torch.linalg.inv(x.T @ x / 0.25 + torch.eye(2) / 4.0)
    return covariance @ x.T @ y / 0.25, covariance


SAMPLERS = {
    "HMC": HMC(chains=24, warmup=60, draws=40, engine="replay", progress=False),
    "NUTS": NUTS(chains=24, warmup=60, draws=40, engine="replay", progress=False),
}
OPTIMISERS = {
    "SVI": SVI(guide="map", steps=200, progress=False),
    "Ensemble": Ensemble(members=2, steps=200, engine="replay", progress=False),
}
SHORT = {
    "HMC": lambda progress: HMC(chains=2, warmup=5, draws=6, engine="eager", progress=progress),
    "NUTS": lambda progress: NUTS(chains=2, warmup=5, draws=6, engine="eager", progress=progress),
    "reference": lambda progress: reference.NUTS(chains=2, warmup=5, draws=6, progress=progress),
    "SVI": lambda progress: SVI(steps=20, progress=progress),
    "Ensemble": lambda progress: Ensemble(members=2, steps=5, engine="eager", progress=progress),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_is_said_and_returned_does_not_depend_on_a_progress_bar(name):
    told, found = [], []
    for progress in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(infer(linear, X, Y, method=SHORT[name](progress), seed=3))
        told.append([str(warning.message) for warning in caught])
    assert told[0] == told[1]
    assert found[0].attrs["warnings"] == found[1].attrs["warnings"] != ""
    assert torch.equal(found[0].draws["w"], found[1].draws["w"])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimum_does_not_depend_on_the_order_of_rows_their_precision_or_masked_rows(name):
    def fit(model, x, y):
        return infer(model, x, y, method=OPTIMISERS[name], seed=0).draws["w"][0, 0]

    mean = exact(X, Y)[0]
    torch.testing.assert_close(fit(linear, X, Y), mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit(linear, X[ORDER], Y[ORDER]), mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit(linear, X.double(), Y.double()).float(), mean, atol=1e-3, rtol=0)
    half = exact(X[KEPT], Y[KEPT])[0]
    torch.testing.assert_close(fit(masked, X, torch.where(KEPT, Y, -100.0)), half, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_posterior_does_not_depend_on_the_order_of_rows_their_precision_or_masked_rows(name):
    """Within 5 standard errors of 300 effective draws, in mean and sd."""
    cases = {
        "as it is": (linear, X, Y),
        "permuted": (linear, X[ORDER], Y[ORDER]),
        "float64": (linear, X.double(), Y.double()),
        "masked": (masked, X, torch.where(KEPT, Y, -100.0)),
    }
    for label, (model, x, y) in cases.items():
        mean, covariance = exact(X[KEPT], Y[KEPT]) if label == "masked" else exact(X, Y)
        draws = infer(model, x, y, method=SAMPLERS[name], seed=0).draws["w"].flatten(0, 1).float()
        sd = covariance.diag().sqrt()
        assert bool(((draws.mean(0) - mean).abs() < 5 * sd / 300**0.5).all()), label
        assert bool(((draws.std(0) / sd).log().abs() < 5 / 600**0.5).all()), label


def test_masked_rows_are_scored_as_rows_left_out():
    method = Ensemble(members=3, steps=300, engine="replay", progress=False)
    with_mask = infer(masked, X, torch.where(KEPT, Y, -100.0), method=method, seed=0)
    without = infer(linear, X[KEPT], Y[KEPT], method=method, seed=0)
    one = with_mask.to_arviz(X, torch.where(KEPT, Y, -100.0))
    other = without.to_arviz(X[KEPT], Y[KEPT])
    scores = [data["log_likelihood"]["y"].values for data in (one, other)]
    torch.testing.assert_close(torch.tensor(scores[0].sum(-1)), torch.tensor(scores[1].sum(-1)), rtol=1e-3, atol=1e-3)
