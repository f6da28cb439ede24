"""Priors chosen by names of parameters: keys that fit, keys that do not, and distributions of Pyro's."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.data import Standardization
from posterity.models import bayesian, bayesian_mixture_density, bayesian_regression, mlp, priors, table_prior
from posterity.models.priors import choose, has_prefix

NET = mlp(2, 4, 1)
ELEVEN = mlp(1, *(2,) * 11, 1)


def prior_of(net, prior):
    """Sites of one run of the model, by name."""
    trace = pyro.poutine.trace(lambda: bayesian("net", net, prior)(torch.zeros(1, net[0].in_features))).get_trace()
    return {name: trace.nodes[name] for name in trace.stochastic_nodes}


@pytest.mark.parametrize(
    "key", ["outptu", "hidden2", "Output", "output.wieght", "net.output", "hidden1.weights", "out"]
)
def test_a_key_that_no_parameter_begins_with_raises(key):
    mapping = {"": priors.Normal(), key: priors.Normal(scale=100.0)}
    with pytest.raises(ValueError, match=rf"expected keys of priors that begin one of .*output.*, got \['{key}'\]"):
        bayesian("net", NET, mapping)


@pytest.mark.parametrize(
    ("parameter", "key", "expected"),
    [
        ("hidden1.weight", "", True),
        ("hidden1.weight", "hidden1", True),
        ("hidden1.weight", "hidden1.", True),
        ("hidden1.weight", "hidden1.weight", True),
        ("hidden1.weight", "hidden", True),  # every hidden layer
        ("hidden10.weight", "hidden1", False),
        ("hidden1.weight", "hid", False),
        ("output.weight", "hidden1", False),
        ("weight_ih_l0", "weight", True),
        ("weight_ih_l10", "weight_ih_l1", False),
        ("0.weight", "0", True),
        ("10.weight", "1", False),
    ],
)
def test_a_key_ends_where_a_word_or_a_number_ends(parameter, key, expected):
    assert has_prefix(parameter, key) == expected


def test_the_first_hidden_layer_is_not_the_eleventh():
    sites = prior_of(ELEVEN, {"": priors.Normal(), "hidden1": priors.Laplace()})
    families = {name: type(node["fn"].base_dist).__name__ for name, node in sites.items()}
    assert families["net.hidden1.weight"] == families["net.hidden1.bias"] == "Laplace"
    assert {families[f"net.hidden{n}.weight"] for n in (2, 10, 11)} == {"Normal"}


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (1.0, "expected a prior such as .*, got 1.0"),
        (priors.Normal, "expected a prior such as .*, got <class"),
        ({"": None}, "expected a prior such as .*, got None"),
        ({0: priors.Normal()}, "expected names of parameters as keys of priors, got 0"),
        ({}, "expected a prior for 'hidden1.weight', got priors for"),
        (dist.Normal(torch.zeros(3), 1.0), "expected a prior of one number, or of shape"),
        (torch.distributions.Normal(0.0, 1.0), "expected a distribution of pyro.distributions as a prior, got one of"),
    ],
)
def test_what_is_no_prior_raises(prior, message):
    with pytest.raises(ValueError, match=message):
        bayesian("net", NET, prior)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_distribution_of_pyros_is_the_prior_of_every_entry(dtype):
    """The log prior is the sum over all 17 weights, in float64 as in float32."""
    net = mlp(2, 4, 1).to(dtype)
    own = dist.StudentT(3.0, 0.5, 2.0)
    model = lambda: bayesian("net", net, own)(torch.zeros(1, 2, dtype=dtype))  # noqa: E731
    trace = pyro.poutine.trace(model).get_trace()
    values = torch.cat([trace.nodes[name]["value"].flatten() for name in trace.stochastic_nodes])
    assert len(values) == 17
    torch.testing.assert_close(trace.log_prob_sum(), own.log_prob(values).sum())
    assert trace.nodes["_RETURN"]["value"].dtype == dtype


def test_a_distribution_of_a_weights_own_shape_is_its_prior():
    wide = dist.Normal(torch.zeros(1, 4), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    sites = prior_of(NET, {"": dist.Normal(0.0, 1.0), "output.weight": wide})
    torch.testing.assert_close(sites["net.output.weight"]["fn"].base_dist.scale, wide.scale)


@pytest.mark.parametrize("build", [bayesian_regression, bayesian_mixture_density])
def test_pairs_refuse_a_mistyped_key_at_once(build):
    with pytest.raises(ValueError, match=r"expected keys of priors that begin one of .*, got \['outptu'\]"):
        build(Standardization.identity(2), prior=table_prior() | {"outptu": priors.Normal()})


def test_the_default_prior_of_a_pair_is_for_any_net():
    """Without a layer hidden1 there is nothing to widen."""
    scale = Standardization.identity(2)
    own = nn.Sequential(nn.Linear(2, 9))
    for pair in (
        bayesian_mixture_density(scale, net=own),
        bayesian_mixture_density(scale, hidden=()),
        bayesian_regression(scale, hidden=()),
    ):
        trace = pyro.poutine.trace(pair.model).get_trace(torch.zeros(3, 2))
        scales = [n["fn"].base_dist.scale for k, n in trace.nodes.items() if k.endswith("weight")]
        assert all(float(s.flatten()[0]) == pytest.approx(2**-0.5) for s in scales)


def test_every_parameter_has_exactly_one_prior():
    chosen = choose({"": priors.Normal(), "output": priors.Laplace()}, ["hidden1.weight", "output.weight"])
    assert chosen == {"hidden1.weight": priors.Normal(), "output.weight": priors.Laplace()}
