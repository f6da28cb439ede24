"""Simulations from a model: its own runs, reproducible, with the moments of prior and likelihood."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.diagnostics.simulation.refits import simulate
from posterity.random import child_seeds, seeded
from tests.inference.diagnostics.simulation.cases import (
    NOISE,
    X,
    asking,
    infinite,
    line_model,
    transforming,
    weighted,
    with_site,
    without_latents,
)


def test_a_simulation_is_a_run_of_the_model():
    """Noise and weights come back from y exactly: y - f(x) in units of the noise is that run's own normal draw."""
    found = simulate(line_model(), X, count=4, seed=1)
    for index, seed in enumerate(child_seeds(1, 4, 1)):
        with seeded(seed):
            y = line_model()(X)
        torch.testing.assert_close(found.y[index], y, rtol=0.0, atol=0.0)
        torch.testing.assert_close(found.deterministics["end"][index], found.latents["w"][index].sum())
    assert {name: value.shape for name, value in found.latents.items()} == {"w": (4, 2), "s": (4,)}
    assert found.site == "y"


def test_a_simulation_does_not_depend_on_how_many_there_are_and_leaves_the_random_state():
    state = torch.get_rng_state()
    few, many = simulate(line_model(), X, count=3, seed=1), simulate(line_model(), X, count=8, seed=1)
    torch.testing.assert_close(few.y, many.y[:3], rtol=0.0, atol=0.0)
    assert len(many.y.unique(dim=0)) == 8
    assert torch.equal(state, torch.get_rng_state())


def test_truths_and_data_have_the_moments_of_prior_and_likelihood():
    """2,000 simulations: every moment within 4.5 standard errors; seed 0."""
    found = simulate(line_model(), X, count=2000, seed=0)
    w, s = found.latents["w"].double(), found.latents["s"].double()
    z = (found.y - w[:, :1] - w[:, 1:] * X) / (NOISE * s[:, None])
    for normal in (w, s.log() / 0.1, z):
        assert abs(float(normal.mean())) < 4.5 / normal.numel() ** 0.5
        assert abs(float(normal.var()) - 1) < 4.5 * (2 / normal.numel()) ** 0.5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_site(lambda w: pyro.param("p", torch.tensor(1.0))), "expected a model whose unknowns all have a prior"),
        (with_site(lambda w: pyro.factor("f", -(w**2))), "that observes y alone, got a pyro.factor at 'f'"),
        (
            with_site(lambda w: pyro.sample("z", dist.Normal(w, 1.0), obs=torch.tensor(0.3))),
            "expected a model that observes y alone, got other observed data at 'z'",
        ),
        (
            with_site(lambda w: pyro.sample("b", dist.Normal(w, 1.0).mask(False))),
            "expected a proper prior of 'b', got a flat one",
        ),
        (
            with_site(lambda w: pyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))),
            "expected a model that draws every site",
        ),
        (transforming, "expected a model that observes y itself at 'y'"),
        (weighted, "expected a model without scaled densities, got one at 'y'"),
        (infinite, "expected finite data from the prior, got nan or infinity in .* of 20 simulations"),
        (without_latents, "expected a model with latent sites"),
        (asking, r"and y if none is given \(y=None\), got TypeError"),
    ],
)
def test_models_that_cannot_be_simulated_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        simulate(model, X, count=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "expected count to be a whole number of 1 or more, got 0"),
        ({"count": 3, "seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
        ({"count": 3, "site": "z"}, "expected an observed site 'z'"),
        ({"count": 3, "site": "w"}, "expected a model that observes y at one of its sites"),
    ],
)
def test_bad_settings_of_a_simulation_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        simulate(line_model(), X, **settings)
