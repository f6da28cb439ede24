"""Batches and noise: new data in every step, unbiased, and the same for every tier."""

import pyro
import pytest
import torch
from torch.distributions import constraints

from posterity.inference import Ensemble, infer
from posterity.inference.engine.density import PointDensity
from posterity.inference.members_batches import BatchGradient
from posterity.inference.program.sites import inspect
from posterity.inference.training.noise import DataNoise
from posterity.models import gaussian, mlp, point

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 2, generator=GENERATOR)
Y = torch.sin(X[:, 0]) + 0.3 * torch.randn(40, generator=GENERATOR)
NET = mlp(2, 4, 1, seed=0)


def model(x, y=None):
    features = point("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


DENSITY = PointDensity(model, (X, Y))
START = 0.5 * torch.randn(3, DENSITY.dim, generator=GENERATOR)


def batches(size=40, noise=None, engine="eager", seed=0):
    noise = None if noise is None else DataNoise(noise, (X, Y), 40, constraints.real)
    generator = torch.Generator().manual_seed(seed)
    return BatchGradient(model, inspect(model, (X, Y)), (X, Y), 40, size, noise, START, engine, generator)


def test_all_rows_without_noise_are_the_log_joint():
    value, grad = batches()(START)
    torch.testing.assert_close(value, torch.stack([DENSITY(q) for q in START]))
    assert grad.shape == START.shape


def test_batches_are_unbiased():
    """The mean over 4000 batches of 5 rows within five standard errors, for each member."""
    gradient = batches(size=5)
    values = torch.stack([gradient(START)[0] for _ in range(1000)]).detach()
    error = values.std(0) / 1000**0.5
    assert bool(((values.mean(0) - torch.stack([DENSITY(q) for q in START])).abs() < 5 * error).all())


def test_noise_on_y_adds_its_variance():
    """The mean log joint falls by n h² / (2 σ²), within five standard errors."""
    gradient, share = batches(noise=(0.0, 0.5)), 0.5 * float(Y.std(correction=0))
    values = torch.stack([gradient(START)[0] for _ in range(1000)]).detach()
    expected = torch.stack([DENSITY(q) for q in START]) - 40 * share**2 / (2 * 0.3**2)
    assert bool(((values.mean(0) - expected).abs() < 5 * values.std(0) / 1000**0.5).all())


@pytest.mark.parametrize(("size", "noise"), [(40, 0.1), (10, None), (10, 0.1)])
def test_a_recording_sees_the_same_data(size, noise):
    eager, replayed = batches(size, noise), batches(size, noise, engine="replay")
    assert replayed.tier == "replay"
    eager(START)  # the recording has drawn one batch
    for _ in range(2):
        for one, other in zip(eager(START), replayed(START), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    assert not torch.equal(replayed(START)[0], replayed(START)[0])  # and new data in each step


FIT = {"members": 3, "steps": 60, "progress": False, "engine": "eager", "behind": "keep"}


def weights(seed=0, **settings):
    return infer(model, X, Y, method=Ensemble(**FIT, **settings), seed=seed).draws["net.hidden1.weight"][0]


def test_noise_of_zero_is_no_noise():
    assert torch.equal(weights(noise=0.0), weights())
    assert torch.equal(weights(noise=(0, 0.0)), weights())


def test_one_seed_one_fit():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(weights(noise=0.2), weights(noise=0.2))
    assert not torch.equal(weights(noise=0.2), weights(noise=0.2, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_predictions_and_held_out_scores_are_without_noise():
    posterior = infer(model, X, Y, method=Ensemble(**FIT, noise=2.0, holdout=0.25, check_every=30), seed=0)
    assert posterior.model is model
    one, two = (posterior.predictive(X).log_prob(Y) for _ in range(2))
    assert torch.equal(one, two)
    assert posterior.history["held_out"].shape == (2, 3)
    # Noise of two standard deviations in the held-out rows would cost 2² / (2 · 0.3²) = 22 of variance 1 and more.
    assert float(posterior.history["held_out"].min()) > -10
