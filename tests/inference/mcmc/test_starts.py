"""Starts of chains: names, values, posteriors; densities that are zero or have no gradient in a part of the space."""

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, infer
from posterity.inference.engine import Density, Engine
from posterity.inference.engine.evaluation import value_and_gradient
from posterity.inference.mcmc.starts import finite_or, start
from tests.inference.mcmc.cases import FAMILIES, X, Y, line, short

FROZEN = {"warmup": 0, "draws": 1, "step_size": 1e-7, "trajectory_length": 1e-7}


# Names, values, posteriors


def test_starts_from_the_prior_are_spread_and_modes_are_not(fast_engine):
    prior = infer(line, X, Y, method=short("HMC", chains=6, **FROZEN)).draws["w"][:, 0]
    mode = infer(line, X, Y, method=short("HMC", chains=6, init="map", **FROZEN)).draws["w"][:, 0]
    assert prior.std() > 0.3
    assert mode.std() < 0.01


VALUES = {"w": torch.tensor([0.1, 0.2, 0.3]), "sigma": torch.tensor([1.0, 2.0, 3.0])}


@pytest.mark.parametrize(
    ("init", "w", "sigma"),
    [
        (VALUES, VALUES["w"], VALUES["sigma"]),
        ({"w": torch.tensor(0.4), "sigma": torch.tensor(2.0)}, torch.full((3,), 0.4), torch.full((3,), 2.0)),
        ({"w": [0.1, 0.2, 0.3], "sigma": 2.0}, VALUES["w"], torch.full((3,), 2.0)),
    ],
    ids=["of each chain", "of every chain", "both"],
)
def test_values_are_starts(init, w, sigma):
    density = Density(line, (X, Y))
    found = density.constrain(start(density, init, 3, seed=0))
    torch.testing.assert_close(found["w"], w, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["sigma"], sigma, rtol=1e-6, atol=1e-6)


def test_a_chain_begins_at_its_start(fast_engine):
    found = infer(line, X, Y, method=short("HMC", init=VALUES, **FROZEN)).draws
    for name, value in VALUES.items():
        torch.testing.assert_close(found[name][:, 0], value, rtol=1e-4, atol=1e-4)


def test_draws_of_a_posterior_are_starts_evenly_spaced():
    fitted = infer(line, X, Y, method=SVI(steps=50, draws=50, progress=False), seed=0)
    density = Density(line, (X, Y))
    found = density.constrain(start(density, fitted, 3, seed=0))["w"]
    torch.testing.assert_close(found, fitted.draws["w"].flatten()[[0, 24, 49]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"w": torch.zeros(3)}, "expected a start for every latent site, got none for 'sigma'"),
        ({"w": torch.zeros(3), "sigma": -torch.ones(3)}, "expected a start inside the support of 'sigma'"),
        (
            {"w": torch.zeros(3), "sigma": torch.ones(2)},
            "expected init with the same number of starts for every site, got {.*3.*2}",
        ),
        (
            {"w": torch.zeros(2, 3), "sigma": torch.ones(2, 3)},
            r"expected init of 'w' of shape \(starts\) .*, got \(2, 3\)",
        ),
        (
            {"w": torch.zeros(0), "sigma": torch.ones(0)},
            r"expected init of 'w' of shape .* with starts > 0, got \(0,\)",
        ),
        (
            {"w": 0.0, "sigma": 1.0, "wt": 1.0},
            r"expected init with values of the sites \['w', .*\] only, got \['wt'\]",
        ),
        ({"w": "zero", "sigma": 1.0}, "expected init of 'w' to be numbers, got str"),
    ],
)
def test_starts_that_do_not_fit_are_refused(init, message):
    with pytest.raises(ValueError, match=message):
        start(Density(line, (X, Y)), init, 3, seed=0)


def bounded(x, y=None):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    w = pyro.sample("w", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(p * w[0] * x[:, 0], 1.0), obs=y)


@pytest.mark.parametrize(
    ("site", "value"),
    [("p", 1.5), ("p", -3.0), ("p", 1.001), ("w", [2.0, 3.0, 4.0]), ("w", [0.9, 0.9, -0.8]), ("w", [0.3, 0.3, 0.3])],
)
def test_a_start_outside_its_support_is_not_taken_to_the_edge(site, value):
    init = {"p": 0.5, "w": [0.2, 0.3, 0.5], site: value}
    with pytest.raises(ValueError, match=f"expected a start inside the support of '{site}', got"):
        start(Density(bounded, (X, Y)), init, 3, seed=0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_draws_of_low_precision_are_starts(dtype):
    """Their simplices add up to one but for rounding."""
    draws = infer(bounded, X, Y, method=short("HMC", dtype=dtype, warmup=0, step_size=0.3, draws=50, engine="replay"))
    assert infer(bounded, X, Y, method=short("HMC", warmup=1, draws=1, init=draws)).num_draws == 1


def sometimes(x, y=None):
    """A scale that is negative in one draw of the prior out of eight."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], w + 1.2), obs=y)


def test_a_start_at_which_the_model_is_not_defined_is_drawn_again():
    w = start(Density(sometimes, (X, Y)), "prior", 16, seed=1)
    assert (w > -1.2).all()
    assert len(w.unique()) == 16


def hardly_ever(x, y=None):
    """Defined at no draw of the prior that anyone will see."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], w - 9.0), obs=y)


def test_a_prior_without_a_start_names_init_and_a_start_that_is_given_is_enough():
    with pytest.raises(
        ValueError, match=r"expected init with .*, got none in 100 draws of 'prior' .*Expected parameter"
    ):
        infer(hardly_ever, X, Y, method=short("HMC"))
    with pytest.raises(ValueError, match=r"expected starts inside the support, .*choose another init .*Expected param"):
        infer(hardly_ever, X, Y, method=short("HMC", init={"w": 8.0}))
    posterior = infer(hardly_ever, X, Y, method=short("HMC", warmup=0, draws=1, step_size=1e-3, init={"w": 10.0}))
    assert (posterior.draws["w"] > 9.0).all()


# Densities that are zero, or have no gradient, in a part of the space


def narrow(x, y=None):
    """The log density is finite where l < 19 or so, the gradient where l < 13: a quarter of the prior."""
    l = pyro.sample("l", dist.HalfNormal(40.0))  # noqa: E741
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(0.0, torch.exp(-(l**2) / 2).sqrt()), obs=y)


def test_a_start_whose_gradient_is_not_finite_is_drawn_again_and_no_other():
    density = Density(narrow, (X, Y))
    few, many = start(density, "prior", 4, seed=0), start(density, "prior", 12, seed=0)
    assert torch.equal(few, many[:4])
    value, grad = value_and_gradient(density, many)
    assert value.isfinite().all()
    assert grad.isfinite().all()
    assert len(many.unique()) == 12


def test_a_model_whose_density_underflows_runs():
    posterior = infer(narrow, X, Y, method=short("NUTS", chains=8, draws=5), seed=1)
    assert (posterior.draws["l"] < 3).all()


def upper_edge(x, y=None):
    """The posterior of t is Pareto(3, rows + 1): below max(y) = 3 it is zero, at any step size."""
    t = pyro.sample("t", dist.Pareto(1.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Uniform(0.0, t), obs=y)


def window(x, y=None):
    """The posterior of a, of a nearly flat prior, is uniform between max(y) - 1 and min(y) + 1."""
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Uniform(a - 1, a + 1), obs=y)


EDGE = torch.linspace(3 / 49, 3, 49)


def test_starts_from_the_prior_are_draws_of_it_for_bounded_sites_too():
    """A third of the prior has density: given that, t is Pareto(3, 1), whose median is 6. 4.5 standard errors."""
    t = start(Density(upper_edge, (EDGE[:, None], EDGE)), "prior", 400, seed=0)[:, 0].exp() + 1
    assert t.min() > 3
    assert abs((t < 6).double().mean() - 0.5) < 4.5 * 0.5 / 20


@pytest.mark.parametrize(
    ("name", "model", "y", "mean", "sd"),
    [
        ("HMC", upper_edge, EDGE, 3 * 50 / 49, 3 / 49 * (50 / 48) ** 0.5),
        ("HMC", window, 0.8 * EDGE / 3 - 0.3, 0.0, 0.0),
        pytest.param("NUTS", upper_edge, EDGE, 3 * 50 / 49, 3 / 49 * (50 / 48) ** 0.5, marks=pytest.mark.slow),
    ],
    ids=["HMC, one edge", "HMC, two edges", "NUTS, one edge"],
)
def test_a_hard_edge_of_the_density_leaves_mean_and_sd_right(name, model, y, mean, sd):
    """5 standard errors, of the sd those of an exponential distribution, which are the larger."""
    init = "prior"
    if model is window:
        low, high = float(y.max()) - 1, float(y.min()) + 1
        mean, sd, init = (low + high) / 2, (high - low) / 12**0.5, {"a": (low + high) / 2}
    method = FAMILIES[name](chains=8, warmup=200, draws=400, init=init, engine="compiled", progress=False)
    posterior = infer(model, y[:, None], y, method=method, seed=0)
    found = next(iter(posterior.draws.values())).double()
    ess = float(az.ess(found.numpy()))
    assert ess > 100
    assert abs(found.mean() - mean) < 5 * sd / ess**0.5
    assert abs(found.std() - sd) < 5 * sd * (2 / ess) ** 0.5


def far_off(x, y=None):
    """No draw of the prior in a million, and nearly every other start, has a density."""
    w = pyro.sample("w", dist.Normal(-30.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], w + 2.5), obs=y)


def test_where_the_prior_has_no_start_another_is_taken_and_said():
    method = short("HMC", warmup=0, draws=1, step_size=1e-3)
    with pytest.warns(
        RuntimeWarning, match=r"init='prior' found no .* 3 chains \(0, 1, 2\) .* from 'uniform'"
    ) as caught:
        posterior = infer(far_off, X, Y, method=method)
    assert [one.filename for one in caught if "found no start" in str(one.message)] == [__file__]
    assert (posterior.draws["w"].abs() < 2.1).all()


def test_a_start_that_is_given_and_has_no_density_names_its_chain():
    values = {"l": torch.tensor([1.0, 16.0, 2.0])}
    with pytest.raises(ValueError, match=r"expected .*got .* in 1 of 3 chains \(1\).*choose another init"):
        infer(narrow, X, Y, method=short("HMC", init=values))


def test_a_chain_whose_mode_has_no_gradient_starts_where_it_was():
    def gradient(q):
        return -(q**2).sum(-1), torch.where(q.abs() < 1e-3, torch.nan, -2 * q)

    engine = Engine(None, 2, "eager", gradient)
    before = torch.tensor([[0.5], [0.7]])
    assert finite_or(engine, torch.tensor([[0.0], [0.1]]), before).flatten().tolist() == pytest.approx([0.5, 0.1])
