"""Marginals over many prior draws: a site of 200,000 entries, or many draws of a small one. Seed 0 throughout."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy import stats

from posterity.models import priors

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
