"""Chains of many data sets in one run: each data set has its own posterior, and settings that cannot be shared."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI
from posterity.inference.mcmc.batched import check_method, one_of, sample_batched

X = torch.linspace(0.0, 1.0, 5, dtype=torch.double)
NOISE = 0.5
SETS = 40
SHORT = HMC(chains=4, warmup=10, draws=5, engine="eager", progress=False)


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x, NOISE), obs=y)


def data_sets(count=SETS):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(count, 2, generator=generator, dtype=torch.double)
    return w[:, :1] + w[:, 1:] * X + NOISE * torch.randn(count, 5, generator=generator, dtype=torch.double)


@pytest.mark.parametrize(("method", "engine"), [(NUTS, "replay"), (HMC, "replay"), (HMC, "eager")])
def test_batched_chains_find_the_posterior_of_their_own_data(method, engine):
    """Means of 40 draws against closed forms, in standard errors of independent draws: a mean square of 1 within 0.5

    (80 values of it have a standard error of 0.16; 320 draws thinned to 40 are near independent)."""
    y = data_sets()
    method = method(chains=8, warmup=60, draws=40, engine=engine)
    draws, diverged = sample_batched(line, (X,), list(y), method, seed=0)
    assert draws["w"].shape == (SETS, 8, 40, 2)
    assert diverged.shape == (SETS,)
    thinned = draws["w"].flatten(1, 2)[:, ::8].numpy()
    design = np.stack([np.ones(5), X.numpy()], 1)
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(2))
    mean = y.numpy() @ design @ covariance / NOISE**2
    z = (thinned.mean(1) - mean) / np.sqrt(covariance.diagonal() / 40)
    assert abs((z**2).mean() - 1) < 0.5
    ratio = thinned.var(1, ddof=1).mean(0) / covariance.diagonal()
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)  # 4.2 standard errors


def test_thinned_draws_are_every_third_and_one_data_set_is_taken_out():
    y = list(data_sets(2))
    method = replace(SHORT, chains=2, warmup=5, draws=6, step_size=0.2, trajectory_length=0.4)
    every, _ = sample_batched(line, (X,), y, method, seed=0)
    third, _ = sample_batched(line, (X,), y, replace(method, draws=2, thin=3), seed=0)
    assert torch.equal(third["w"], every["w"][:, :, 2::3])
    assert torch.equal(one_of(every, 1)["w"], every["w"][1])


def test_modes_are_those_of_each_data_set():
    """From the mode and with a step of nothing, the draws are the posterior means."""
    y = data_sets(3)
    still = replace(SHORT, chains=2, warmup=0, draws=1, step_size=1e-9, trajectory_length=1e-9, init="map")
    draws, _ = sample_batched(line, (X,), list(y), still, seed=0)
    design = torch.stack([torch.ones_like(X), X], 1)
    mean = torch.linalg.solve(design.T @ design / NOISE**2 + torch.eye(2), design.T @ y.T / NOISE**2).T
    assert (draws["w"][:, :, 0] - mean[:, None]).abs().max() < 0.3  # the ascent ends 0.1 nats from the mode


def test_data_without_a_density_are_refused():
    y = data_sets(3)
    y[1] = torch.nan
    with pytest.raises(ValueError, match="expected finite log densities at the start, got 4 of 12 that are nan"):
        sample_batched(line, (X,), list(y), SHORT, seed=0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (SVI(), r"expected method to be HMC\(...\) or NUTS\(...\) with batched=True, got SVI"),
        (replace(SHORT, max_seconds=1.0), "max_seconds, .* not supported with batched=True, got max_seconds=1.0$"),
        (replace(SHORT, superchains=2, target_ess=9.0), "with batched=True, got target_ess=9.0, superchains=2$"),
        (replace(SHORT, init={"w": torch.zeros(2)}), "expected init to be a name with batched=True, got dict"),
    ],
)
def test_methods_that_cannot_be_batched_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        check_method(method)
    check_method(SHORT)
