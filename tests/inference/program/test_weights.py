"""Which sites are weights of a network: by their mark, by their shape and support."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.program.sites import inspect
from posterity.models import bayesian, mlp

X, Y = torch.linspace(-1, 1, 6)[:, None], torch.zeros(6)


def model_of(*sites):
    def model(x, y=None):
        for name, fn in sites:
            pyro.sample(name, fn)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)

    return model


def normal(*shape):
    return dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))


SCALAR = ("s", dist.HalfNormal(1.0))
CASES = {
    "scalars": ([SCALAR, ("a", normal())], ()),
    "a vector alone": ([SCALAR, ("a", normal(3))], ()),
    "a matrix with its bias": ([SCALAR, ("w", normal(3, 2)), ("b", normal(3))], ("w", "b")),
    "a positive matrix": ([("w", dist.HalfCauchy(torch.ones(3, 2)).to_event(2)), SCALAR], ("w",)),
    "a simplex per topic": ([("t", dist.Dirichlet(torch.ones(3, 2)).to_event(1)), ("b", normal(3))], ()),
    "the factor of a correlation": ([("c", dist.LKJCholesky(3, 1.0)), ("b", normal(3))], ()),
}


@pytest.mark.parametrize("name", CASES)
def test_matrices_that_vary_freely_are_weights_and_vectors_beside_them(name):
    sites, weights = CASES[name]
    assert inspect(model_of(*sites), (X, Y)).weights == weights


def test_dimensions_of_plates_do_not_make_a_matrix():
    def model(x, y=None):
        with pyro.plate("a", 3, dim=-2), pyro.plate("b", 2, dim=-1):
            pyro.sample("cell", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)

    assert inspect(model, (X, Y)).weights == ()


def test_sites_of_a_network_are_marked_whatever_their_shape():
    net = mlp(1, 1, seed=0)  # a weight (1, 1) and a bias (1,)

    def model(x, y=None):
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        mean = bayesian("net", net)(x)[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, scale), obs=y)

    assert set(inspect(model, (X, Y)).weights) == {"net.output.weight", "net.output.bias"}
