"""Marginals over many prior draws: a site of 200,000 entries, or many draws of a small one. Seed 0 throughout."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from posterity.data import Standardization
from posterity.models import bayesian, bayesian_mixture_density, bayesian_regression, mlp, priors, table_prior
from posterity.models.priors import choose, has_prefix

KS_FAILURE_RATE = 1e-3
SHAPE = torch.Size([500, 400])


def draw(prior, shape=SHAPE, dtype=torch.float32):
    trace = pyro.poutine.trace(prior).get_trace("w", torch.Size(shape), torch.zeros(shape, dtype=dtype))
    return trace.nodes["_RETURN"]["value"], trace


def hierarchical_draws(prior, count, shape=(2, 3)):
    """One entry of each of ``count`` independent draws of the whole hierarchy."""
    return torch.stack([draw(prior, shape)[0][0, 0] for _ in range(count)]).double().numpy()


MARGINALS = {
    "Normal": (priors.Normal(scale=3.0), lambda s: stats.norm(0, s)),
    "Laplace": (priors.Laplace(scale=3.0), lambda s: stats.laplace(0, s)),
    "StudentT": (priors.StudentT(scale=3.0, df=5.0), lambda s: stats.t(5, 0, s)),
}


@pytest.mark.parametrize("name", MARGINALS)
def test_entries_follow_the_family_at_scale_over_root_fan_in(name):
    prior, law = MARGINALS[name]
    weight, _ = draw(prior)
    law = law(3 / math.sqrt(400))
    assert stats.kstest(weight.flatten().double().numpy(), law.cdf).pvalue > KS_FAILURE_RATE


@pytest.mark.parametrize(
    ("prior", "sd"),
    [
        (priors.Normal(scale=2.0), 2.0),
        (priors.Laplace(scale=2.0), 2.0 * math.sqrt(2)),
        (priors.StudentT(scale=2.0, df=10.0), 2.0 * math.sqrt(10 / 8)),
        (priors.ScaleMixture(scale=2.0, weight=0.25, narrow=0.2), math.sqrt(0.25 * 4 + 0.75 * 0.04)),
        (priors.HierarchicalNormal(scale=2.0, concentration=6.0, rate=6.0), 2.0 * math.sqrt(6 / 5)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("width", [4, 64])
def test_the_spread_of_a_pre_activation_does_not_depend_on_the_width(prior, sd, width):
    """Sum of ``width`` weights over unit inputs: its sd is the formula's, whatever the width; 4.5 standard errors."""
    count = 1500
    sums = torch.stack([draw(prior, (1, width))[0].sum() for _ in range(count)])
    squares = sums**2
    standard_error = squares.std() / math.sqrt(count)
    assert abs(squares.mean() - sd**2) < 4.5 * standard_error


def test_without_fan_in_the_scale_is_that_of_the_weight():
    weight, _ = draw(priors.Normal(scale=0.5, fan_in=False))
    assert abs(weight.std() - 0.5) < 4 * 0.5 / math.sqrt(2 * weight.numel())


def test_fan_in_of_a_convolution_counts_the_kernel():
    _, trace = draw(priors.Normal(scale=3.0), (8, 4, 3, 3))
    torch.testing.assert_close(trace.nodes["w"]["fn"].base_dist.scale, torch.full((8, 4, 3, 3), 3 / 6.0))


def test_biases_are_not_divided_and_may_have_a_scale_of_their_own():
    assert draw(priors.Normal(scale=3.0), (7,))[1].nodes["w"]["fn"].base_dist.scale[0] == 3.0
    own = priors.Normal(scale=3.0, bias_scale=0.25)
    assert draw(own, (7,))[1].nodes["w"]["fn"].base_dist.scale[0] == 0.25
    assert draw(own, ())[1].nodes["w"]["fn"].scale == 0.25
    torch.testing.assert_close(draw(own, (7, 9))[1].nodes["w"]["fn"].base_dist.scale[0, 0], torch.tensor(1.0))


@pytest.mark.parametrize("a", [1.0, 1.5])
def test_hierarchical_normal_is_marginally_student_t_with_2a_degrees(a):
    entries = hierarchical_draws(priors.HierarchicalNormal(scale=2.0, concentration=a, rate=a), 4000)
    law = stats.t(2 * a, 0, 2 / math.sqrt(3))
    assert stats.kstest(entries, law.cdf).pvalue > KS_FAILURE_RATE
    # The test can tell: a normal of the same spread, or t with a degrees of freedom, is refused.
    assert stats.kstest(entries, stats.t(a, 0, 2 / math.sqrt(3)).cdf).pvalue < KS_FAILURE_RATE


def test_scale_mixture_density_is_blundells():
    """Equation 7: pi N(w|0, s1) + (1 - pi) N(w|0, s2); with s2 the narrow scale in the same units as ``scale``."""
    weight = torch.randn(3, 4, dtype=torch.double)
    _, trace = draw(priors.ScaleMixture(scale=2.0, weight=0.3, narrow=0.1), (3, 4), torch.double)
    wide, narrow = stats.norm(0, 2 / 2), stats.norm(0, 0.1 / 2)
    by_hand = np.log(0.3 * wide.pdf(weight) + 0.7 * narrow.pdf(weight)).sum()
    np.testing.assert_allclose(trace.nodes["w"]["fn"].log_prob(weight), by_hand, rtol=1e-9)


def test_horseshoe_density_is_half_cauchys_and_a_normal():
    prior, shape = priors.Horseshoe(scale=2.0), torch.Size([3, 4])
    _, trace = draw(prior, shape, torch.double)
    assert {"w.overall", "w.local", "w.raw", "w"} <= set(trace.nodes)
    overall, local, raw = (trace.nodes[f"w.{part}"]["value"] for part in ("overall", "local", "raw"))
    torch.testing.assert_close(trace.nodes["w"]["value"], raw * overall * local)
    by_hand = (
        stats.halfcauchy(0, 2 / 2).logpdf(overall) + stats.halfcauchy.logpdf(local).sum() + stats.norm.logpdf(raw).sum()
    )
    np.testing.assert_allclose(trace.log_prob_sum(), by_hand, rtol=1e-9)


def test_hierarchical_normal_density_and_sites():
    prior = priors.HierarchicalNormal(scale=2.0, concentration=3.0, rate=4.0)
    _, trace = draw(prior, (3, 4), torch.double)
    precision, raw = trace.nodes["w.precision"]["value"], trace.nodes["w.raw"]["value"]
    torch.testing.assert_close(trace.nodes["w"]["value"], raw / precision.sqrt() * 2 / 2)
    by_hand = stats.gamma(3.0, scale=1 / 4.0).logpdf(precision) + stats.norm.logpdf(raw).sum()
    np.testing.assert_allclose(trace.log_prob_sum(), by_hand, rtol=1e-9)


EVERY = [
    priors.Normal(),
    priors.Laplace(),
    priors.StudentT(),
    priors.ScaleMixture(),
    priors.HierarchicalNormal(),
    priors.Horseshoe(),
]


@pytest.mark.parametrize("prior", EVERY, ids=lambda prior: type(prior).__name__)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4, 4)], ids=str)
def test_weights_have_the_shape_and_dtype_asked_for(prior, shape):
    weight, trace = draw(prior, shape, torch.double)
    assert weight.shape == shape
    assert weight.dtype == torch.double
    assert trace.nodes["w"]["fn"].batch_shape == ()


@pytest.mark.parametrize("family", [type(prior) for prior in EVERY])
@pytest.mark.parametrize("setting", ["scale", "bias_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_scales_that_are_not_positive_raise(family, setting, value):
    with pytest.raises(ValueError, match=f"expected {setting} to be a finite number above 0 in {family.__name__}, got"):
        family(**{setting: value})


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (priors.StudentT, {"df": 0.0}, "expected df to be a finite number above 0 in StudentT"),
        (priors.HierarchicalNormal, {"concentration": -1.0}, "expected concentration to be a finite number above 0"),
        (priors.HierarchicalNormal, {"rate": 0.0}, "expected rate to be a finite number above 0"),
        (priors.ScaleMixture, {"weight": 1.0}, "expected a weight between 0 and 1, got 1.0"),
        (priors.ScaleMixture, {"narrow": 0.0}, "expected narrow to be a finite number above 0"),
    ],
)
def test_other_parameters_out_of_range_raise(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family(**settings)


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
