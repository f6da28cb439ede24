"""Where chains start, and densities that are zero, or have no gradient, in a part of the space."""

from typing import Any

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, infer
from posterity.inference.engine import Density, Engine
from posterity.inference.engine.evaluation import value_and_gradient
from posterity.inference.mcmc.starts import finite_or, start

X = torch.linspace(-2, 2, 10)[:, None]
Y = torch.sin(2 * X[:, 0])
FAMILIES = {"HMC": HMC, "NUTS": NUTS}
COMMON = {"chains": 3, "warmup": 30, "draws": 12, "threads": 1, "progress": False}


def short(name: str, **changes: Any) -> HMC | NUTS:
    return FAMILIES[name](**{**COMMON, **changes})


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
    posterior = infer(narrow, X, Y, method=short("NUTS", chains=8, draws=5, engine="eager", max_tree_depth=3), seed=1)
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
    method = short(name, chains=8, warmup=200, draws=200, init=init, engine="compiled")
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
    method = short("HMC", warmup=0, draws=1, step_size=1e-3, engine="eager")
    with pytest.warns(RuntimeWarning, match=r"init='prior' found no .* 3 chains \(0, 1, 2\) .* from 'uniform'") as said:
        posterior = infer(far_off, X, Y, method=method)
    assert sum("found no start" in str(warning.message) for warning in said) == 1
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
