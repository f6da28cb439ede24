"""`inspect`: the sites and plates of models, observations that were left out, and models that are refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.program.sites import (
    Program,
    inspect,
    is_deterministic,
    is_latent,
    other_prior_draws,
    vectorized_plates,
)
from posterity.inference.program.trace import trace
from posterity.models import bayesian, gaussian, mlp, point
from tests.inference.program.cases import varying_slopes

N = 6
X = torch.linspace(-1, 1, N)[:, None]
NET = mlp(1, 4, 1, seed=0)


def with_noise(x, y=None):
    features = bayesian("net", NET)(x)
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def with_decay(x, y=None):
    features = point("net", NET, decay=1.0)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def test_the_program_of_a_model_is_complete():
    assert inspect(varying_slopes, (X, torch.zeros(N))) == Program(
        site="y", plates=("obs",), observed=("y",), latents=("overall", "own"), parameters=(),
        deterministics=("slope",), weights=(), dims=(2, 1),
    )  # fmt: skip


def test_parameters_and_a_factor_are_no_observations():
    program = inspect(with_decay, (X, torch.zeros(N)))
    assert (program.site, program.latents, program.deterministics) == ("y", (), ())
    assert set(program.parameters) == {f"net.{n}" for n, _ in NET.named_parameters()}


def test_plates_go_from_outer_to_inner():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 4, dim=-2), pyro.plate("columns", 3, dim=-1):
            pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    assert inspect(model, (torch.zeros(4, 3),)).plates == ("rows", "columns")


def test_a_plate_that_is_a_loop_is_no_dimension():
    def model(y):
        for i in pyro.plate("loop", 2):
            with pyro.plate(f"rows{i}", 3):
                pyro.sample(f"y{i}", dist.Normal(0.0, 1.0), obs=y)

    nodes = trace(model, (torch.zeros(3),), seed=0)
    assert len(nodes["y0"]["cond_indep_stack"]) == 2
    assert [frame.name for frame in vectorized_plates(nodes["y0"])] == ["rows0"]


def test_one_of_several_observed_sites_is_chosen_by_name():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("a", dist.Normal(w, 1.0), obs=y)
        pyro.sample("b", dist.Normal(w, 1.0), obs=y)

    program = inspect(model, (torch.tensor(0.0),))
    assert (program.site, program.sites) == (None, ("a", "b"))
    with pytest.raises(ValueError, match=r"expected site, the name of one observed site of \['a', 'b'\], got none"):
        program.one_site()
    with pytest.raises(ValueError, match=r"expected site to be an observed site of \['a', 'b'\], got 'w'"):
        program.one_site("w")
    named = inspect(model, (torch.tensor(0.0),), "b")
    assert (named.site, named.sites, named.one_site(), named.one_site("a")) == ("b", ("b",), "b", "a")
    with pytest.raises(ValueError, match=r"expected a model with an observed site 'c' .* got observed sites"):
        inspect(model, (torch.tensor(0.0),), "c")


def test_no_observed_site_raises():
    with pytest.raises(ValueError, match=r"expected a model with an observed site \(obs=y\).*\(not given: 'y'\)"):
        inspect(with_noise, (X,))


def test_a_discrete_latent_site_without_finite_support_raises():
    def model(y=None):
        k = pyro.sample("k", dist.Poisson(3.0))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    with pytest.raises(
        ValueError, match=r"expected continuous latent sites, or .* finite support can be enumerated, got 'k'"
    ):
        inspect(model, (torch.tensor(0.0),))


def test_the_callers_random_state_and_parameters_are_untouched():
    pyro.param("net.hidden1.weight", torch.tensor(7.0))
    state = torch.get_rng_state()
    inspect(with_decay, (X, torch.zeros(N)))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(pyro.get_param_store()) == ["net.hidden1.weight"]
    assert pyro.param("net.hidden1.weight") == 7.0


def test_a_subsampled_plate_is_no_latent_site():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x), subsample_size=2) as index:
            return pyro.sample("y", dist.Normal(w * x[index, 0], 1.0), obs=None if y is None else y[index])

    assert inspect(model, (X, torch.zeros(N))).latents == ("w",)


def test_the_kinds_of_nodes():
    nodes = trace(varying_slopes, (X, torch.zeros(N)), seed=0)
    assert [name for name, node in nodes.items() if is_latent(node)] == ["overall", "own"]
    assert [name for name, node in nodes.items() if is_deterministic(node)] == ["slope"]


def test_other_prior_draws_differ_and_are_the_same_each_time():
    first, second = (other_prior_draws(varying_slopes, (X, torch.zeros(N)), "overall") for _ in range(2))
    values = [float(node["value"]) for node in first]
    assert len(set(values)) == 2
    assert values == [float(node["value"]) for node in second]


def two_observations(x, z=None, y=None):
    slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
    with pyro.plate("obs", len(x)):
        pyro.sample("z", dist.Normal(-slope * x[:, 0], 0.3), obs=z)
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3), obs=y)


def test_an_observation_that_was_left_out_is_named_and_one_that_is_none_is_latent():
    z = torch.zeros(N)
    with pytest.raises(ValueError, match="expected the model's argument 'y', which it observes at the site 'y'"):
        inspect(two_observations, (X, z))
    assert inspect(two_observations, (X, None, z)).latents == ("slope", "z")
    with pytest.raises(ValueError, match="expected the model's argument 'z', which it observes at the site 'z'"):
        inspect(two_observations, (X, None, z), left_out=["z"])
