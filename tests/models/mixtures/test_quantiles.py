"""Quantiles of mixtures, against SciPy and by inversion of the distribution function."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from posterity.models import Mixture, tails
from posterity.models.parameters import map_parameters
from tests.mixture_cases import common, component_families, families, mixture_of, mixtures, numbers, random_mixture


@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
@pytest.mark.parametrize("probability", [1e-100, 1e-20, 1e-9, 0.3, 0.5, 0.7, 1 - 1e-9])
def test_quantile_of_one_component_is_scipys(family, probability):
    components, scipy_part = component_families(torch.tensor([3.0]).double(), torch.tensor([2.0]).double())[family]
    mixture = Mixture(dist.Categorical(logits=torch.zeros(1, dtype=torch.double)), components)
    # An upper quantile depends on 1 - p, which float64 knows only to 1e-16.
    tolerance = 1e-9 if probability < 0.9 else 1e-7
    np.testing.assert_allclose(mixture.icdf(probability), scipy_part(0).ppf(probability), rtol=tolerance)


@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_quantile_inverts_the_distribution_function(family, data):
    """cdf(icdf(p)) is p to 1e-9 of the smaller tail, for scales over twelve orders of magnitude."""
    k = data.draw(st.integers(1, 5))
    floats = lambda low, high: data.draw(st.lists(st.floats(low, high), min_size=k, max_size=k))  # noqa: E731
    loc = torch.tensor(floats(-10, 10), dtype=torch.double)
    scale = 10 ** torch.tensor(floats(-6, 6), dtype=torch.double)
    logits = torch.tensor(floats(-5, 5), dtype=torch.double)
    p = torch.tensor(data.draw(st.floats(1e-12, 1 - 1e-12)), dtype=torch.double)
    mixture = Mixture(dist.Categorical(logits=logits), component_families(loc, scale)[family][0])
    y = mixture.icdf(p)
    tail, wanted = (mixture.sf(y), 1 - p) if p > 0.5 else (mixture.cdf(y), p)
    # y itself is rounded: 2 ulp of it move the cdf by this much.
    rounding = 8 * np.spacing(y.abs().item()) * mixture.log_prob(y).exp().item()
    assert abs(tail - wanted) <= 1e-9 * wanted + rounding


@settings(max_examples=60, deadline=None)
@given(mixtures, st.floats(-40, 40))
def test_value_comes_back_from_its_probability(mixture, value):
    y = torch.tensor(value, dtype=torch.double)
    lower, upper = mixture.cdf(y), mixture.sf(y)
    density = mixture.log_prob(y).exp()
    # Where the density is nearly zero between components, the probability does not determine y.
    assume(min(lower, upper) > 1e-12 and density > 1e-4 * min(lower, upper))
    p = lower
    conditioning = np.spacing(1.0) * max(p.item(), 1e-3) / density.item()
    assert abs(mixture.icdf(p) - y) <= 1e-9 * (1 + abs(value)) + 50 * conditioning


@pytest.mark.parametrize("components", [1, 100])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_quantile_of_a_large_batch(components, scale):
    """Every entry of a batch is solved, not only the slowest one."""
    torch.manual_seed(components)
    loc, log_scale, logits = torch.randn(3, 200, components, dtype=torch.double)
    mixture = Mixture.normal(logits, scale * 3 * loc, scale * log_scale.exp())
    p = torch.rand(5, 200, dtype=torch.double)
    torch.testing.assert_close(mixture.cdf(mixture.icdf(p)), p, rtol=0, atol=1e-9)
    single = torch.stack([mixture[i].icdf(p[0, i]) for i in range(3)])
    torch.testing.assert_close(single, mixture.icdf(p)[0, :3], rtol=1e-12, atol=0)


def test_a_weight_of_1e_30_is_seen_in_its_own_tail():
    logits = torch.log(torch.tensor([1.0, 1e-30], dtype=torch.double))
    mixture = Mixture.normal(logits, torch.tensor([0.0, 100.0]).double(), torch.ones(2).double())
    # Beyond 40 only the far component has probability: sf = 1e-30 sf_2, so its median has sf 5e-31.
    np.testing.assert_allclose(mixture.sf(torch.tensor(100.0).double()), 5e-31, rtol=1e-9)
    np.testing.assert_allclose(mixture.icdf(0.5), 0.0, atol=1e-12)
    # The mirror image has the rare component in the lower tail, where a probability of 5e-31 can be represented.
    mirrored = Mixture.normal(logits, torch.tensor([0.0, -100.0]).double(), torch.ones(2).double())
    np.testing.assert_allclose(mirrored.icdf(5e-31), -100.0, rtol=1e-9)


def test_a_component_of_no_weight_does_not_widen_anything():
    logits = torch.tensor([0.0, -math.inf], dtype=torch.double)
    mixture = Mixture.normal(logits, torch.tensor([1.0, 1e9]).double(), torch.tensor([2.0, 1e9]).double())
    np.testing.assert_allclose(mixture.icdf(0.975), 1 + 2 * stats.norm.ppf(0.975), rtol=1e-12)


def test_plateau_between_separated_components():
    """Half of the mass at -1000 and half at +1000: quantiles step across, the median is on the plateau."""
    mixture = Mixture.normal(torch.zeros(2).double(), torch.tensor([-1e3, 1e3]).double(), torch.ones(2).double())
    q = mixture.icdf(torch.tensor([0.25, 0.5 - 1e-9, 0.5, 0.5 + 1e-9, 0.75], dtype=torch.double))
    np.testing.assert_allclose(q[0], -1000, rtol=1e-12)
    np.testing.assert_allclose(q[1], -1000 + stats.norm.ppf(1 - 2e-9), rtol=1e-9)
    assert -1000 < q[2] < 1000
    assert mixture.cdf(q[2]) == 0.5
    np.testing.assert_allclose(q[3], 1000 + stats.norm.ppf(2e-9), rtol=1e-9)
    np.testing.assert_allclose(q[4], 1000, rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        (dist.Normal(torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.Laplace(torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.StudentT(3.0, torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.LogNormal(torch.zeros(2), torch.ones(2)), (0.0, math.inf)),
        (dist.Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])), (-1.0, 4.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_quantiles_at_0_and_1_are_the_ends_of_the_support(family, ends):
    mixture = Mixture(dist.Categorical(logits=torch.tensor([0.0, 1.0])), family)
    found = mixture.icdf(torch.tensor([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(found[[0, 2]], ends, rtol=1e-6, atol=1e-6)
    below = tails.cdf(map_parameters(family, torch.clone), found[1])
    assert (mixture.log_weights.exp() * below).sum() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_probability_outside_0_1_raises(probability):
    with pytest.raises(ValueError, match=r"expected probability to be a number in \[0, 1\], got"):
        random_mixture().icdf(probability)


def test_quantiles_broadcast_over_a_batch():
    mixture = random_mixture(6)
    levels = torch.tensor([0.1, 0.9], dtype=torch.double)
    both = mixture.icdf(levels[:, None])
    assert both.shape == (2, 6)
    torch.testing.assert_close(mixture.cdf(both), levels[:, None].expand(2, 6))


@families
@common
@given(values=numbers())
def test_quantiles_rise_and_invert_the_distribution_function(family, values):
    """For counts, the smallest one that reaches the probability."""
    mixture = mixture_of(family, values)
    u = torch.tensor([1e-9, 1e-6, 1e-3, *np.linspace(0.02, 0.98, 25), 1 - 1e-3, 1 - 1e-6], dtype=torch.double)
    y = mixture.icdf(u)
    assert bool((y.diff() >= 0).all())
    if family == "poisson":
        assert bool((mixture.cdf(y) >= u * (1 - 1e-12)).all())
        assert bool(((mixture.cdf(y - 1) < u * (1 + 1e-12)) | (y == 0)).all())
        return
    atol = 1e-8 if family == "von_mises" else 1e-11  # SciPy's series for angles
    torch.testing.assert_close(mixture.cdf(y), u, rtol=0, atol=atol)
    torch.testing.assert_close(mixture.sf(y), 1 - u, rtol=0, atol=atol)


@pytest.mark.parametrize("rate", [1e6, 1.9e7, 1e9])
def test_quantiles_of_counts_that_float32_cannot_all_hold(rate):
    """Above 2**24 neighbouring numbers differ by more than one count, and the bisection must end."""
    counts = Mixture(dist.Categorical(torch.ones(3, 1)), dist.Poisson(torch.full((3, 1), rate)))
    level = torch.tensor([0.1, 0.5, 0.9])
    found = counts.icdf(level).double()
    np.testing.assert_allclose(stats.poisson.cdf(found.numpy(), rate), level.numpy(), atol=1e-3)


@pytest.mark.parametrize("batch", [(), (3,), (4,), (2, 3)])
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.DoubleTensor])
def test_several_quantiles_are_the_last_dimension(batch, kind):
    """As many levels as mixtures, and other numbers: the levels never broadcast against the batch."""
    loc, scale = torch.randn(*batch, 1, dtype=torch.double), torch.rand(*batch, 1, dtype=torch.double) + 0.1
    levels = [0.025, 0.3, 0.5, 0.999]
    found = Mixture.normal(torch.zeros_like(loc), loc, scale).quantiles(kind(levels))
    expected = stats.norm.ppf(levels, loc.numpy(), scale.numpy())
    assert found.shape == (*batch, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_quantiles_of_a_mixture_agree_with_its_distribution_function_and_interval():
    mixture = Mixture.normal(torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3) + 0.1).to(torch.double)
    levels = torch.tensor([0.05, 0.4, 0.95], dtype=torch.double)
    found = mixture.quantiles(levels)
    torch.testing.assert_close(mixture.cdf(found.T).T, levels.expand(5, 3))
    torch.testing.assert_close(torch.stack(mixture.interval(0.9), -1), found[:, [0, 2]])
    torch.testing.assert_close(mixture.quantiles(), mixture.quantiles([0.05, 0.5, 0.95]))
    assert Mixture.normal(torch.zeros(1), torch.zeros(1), torch.ones(1)).quantiles([0.0, 1.0]).tolist() == [
        -math.inf, math.inf,
    ]  # fmt: skip


@pytest.mark.parametrize("levels", [0.5, [], [0.5, 1.1], [-0.1], [math.nan], ["a"], [[0.5, 0.6]], None])
def test_other_levels_of_quantiles_are_refused(levels):
    with pytest.raises(ValueError, match=r"levels.*, got"):
        Mixture.normal(torch.zeros(1), torch.zeros(1), torch.ones(1)).quantiles(levels)


def test_the_central_interval_has_equal_tails():
    mixture = Mixture.normal(torch.tensor([[0.3, 0.7], [0.5, 0.5]]).log(), torch.randn(2, 2), torch.rand(2, 2) + 0.1)
    low, high = mixture.interval(0.8)
    torch.testing.assert_close(mixture.cdf(low), torch.full((2,), 0.1), atol=1e-5, rtol=0)
    torch.testing.assert_close(mixture.sf(high), torch.full((2,), 0.1), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="level"):
        mixture.interval(1.0)
