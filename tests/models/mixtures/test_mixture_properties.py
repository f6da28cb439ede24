"""What holds of every mixture: laws of probability, what must not depend on how it is written, and extreme numbers.

Numbers are drawn by hypothesis, the same ones in every run. Integrals are by Gauss-Legendre quadrature in double
precision between neighbouring quantiles of the components, so that no narrow or far one is missed.
"""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.inference import PredictiveMixture
from posterity.models import Mixture, mixture_head, tails

common = settings(deadline=None, max_examples=15, derandomize=True)
fewer = settings(common, max_examples=10)
fewest = settings(common, max_examples=4)  # where modes and regions are searched for

# Every family from numbers in a common range: a centre in (-5, 5) and a log-scale in (-3, 3).
FAMILIES = {
    "normal": lambda centre, s: dist.Normal(centre, s.exp()),
    "laplace": lambda centre, s: dist.Laplace(centre, s.exp()),
    "student_t": lambda centre, s: dist.StudentT(5.0, centre, s.exp()),
    "log_normal": lambda centre, s: dist.LogNormal(centre / 2, (s / 3).exp() / 2),
    "poisson": lambda centre, s: dist.Poisson((s + 1).exp()),
    "von_mises": lambda centre, s: dist.VonMises(centre * math.pi / 5, (2 * s).exp()),
}
CONTINUOUS = ("normal", "laplace", "student_t", "log_normal")
MOVABLE = ("normal", "laplace", "student_t")  # what a shift and a factor leave in the family
families = pytest.mark.parametrize("family", FAMILIES)
continuous = pytest.mark.parametrize("family", CONTINUOUS)
movable = pytest.mark.parametrize("family", MOVABLE)


def lists(count, low, high):
    return st.lists(st.floats(low, high), min_size=count, max_size=count)


@st.composite
def numbers(draw, most=5):
    """Logits, centres and log-scales (K,) of up to ``most`` components."""
    count = draw(st.integers(1, most))
    rows = [draw(lists(count, low, high)) for low, high in ((-5, 5), (-5, 5), (-3, 3))]
    return torch.tensor(rows, dtype=torch.double)


def mixture_of(family, values):
    logits, centre, s = values.unbind(-2)
    return Mixture(dist.Categorical(logits=logits), FAMILIES[family](centre, s))


STEPS = [1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.35]
LEVELS = torch.tensor([*STEPS, 0.5, *(1 - p for p in reversed(STEPS))], dtype=torch.double)
NODES, WEIGHTS = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(20))


def integral(mixture, function):
    """E[function(Y)] over all but 1e-13 of either tail of every component."""
    if isinstance(mixture.component_distribution, dist.Poisson):
        y = torch.arange(400, dtype=torch.double)
        return (mixture.log_prob(y).exp() * function(y)).sum()
    if isinstance(mixture.component_distribution, dist.VonMises):
        y = torch.linspace(-math.pi, math.pi, 8001, dtype=torch.double)[1:]  # the trapezoidal rule on a circle
        return (mixture.log_prob(y).exp() * function(y)).sum() * 2 * math.pi / 8000
    edges = tails.icdf(mixture.component_distribution, LEVELS[:, None]).flatten().sort().values
    half, middle = edges.diff() / 2, (edges[1:] + edges[:-1]) / 2
    y = middle[:, None] + half[:, None] * NODES
    return (mixture.log_prob(y).exp() * function(y) * WEIGHTS * half[:, None]).sum()


# Laws of probability


@families
@common
@given(values=numbers())
def test_the_density_integrates_to_1(family, values):
    # torch's series for the Bessel function of an angle's density has errors of 2e-7.
    tolerance = 1e-6 if family == "von_mises" else 1e-8
    assert float(integral(mixture_of(family, values), torch.ones_like)) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("family", [*CONTINUOUS, "poisson"])
@common
@given(values=numbers())
def test_moments_are_integrals(family, values):
    """Mean and variance to 1e-5 of the standard deviation: Student's t has 1e-7 of its variance beyond the nodes."""
    mixture = mixture_of(family, values)
    mean, variance = float(mixture.mean), float(mixture.variance)
    assert float(integral(mixture, lambda y: y)) == pytest.approx(mean, rel=1e-6, abs=1e-5 * math.sqrt(variance))
    assert float(integral(mixture, lambda y: (y - mean) ** 2)) == pytest.approx(variance, rel=1e-5)


@continuous
@fewer
@given(values=numbers(), level=st.floats(0.01, 0.99))
def test_the_distribution_function_is_the_integral_of_the_density(family, values, level):
    """Up to a quantile, by the difference that a small step makes: (F(b) - F(a)) / (b - a) between two of them."""
    mixture = mixture_of(family, values)
    a, b = mixture.icdf(torch.tensor([level, min(1.0, level + 1e-3)], dtype=torch.double))
    y = (a + b) / 2 + (b - a) / 2 * NODES
    edges = tails.icdf(mixture.component_distribution, torch.tensor(0.5, dtype=torch.double))
    if family == "laplace" and bool(((edges > a) & (edges < b)).any()):
        return  # a cusp between them: no polynomial
    density = (mixture.log_prob(y).exp() * WEIGHTS).sum() * (b - a) / 2
    # A step between components that are far apart crosses a gap in which the density is no polynomial either.
    if mixture.log_prob(y).max() - mixture.log_prob(y).min() < 2:
        assert float(density) == pytest.approx(1e-3, rel=1e-6)


@families
@common
@given(values=numbers())
def test_quantiles_rise_and_invert_the_distribution_function(family, values):
    """Of counts the smallest with enough below it."""
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


@families
@fewer
@given(values=numbers())
def test_samples_have_the_probabilities_between_quantiles(family, values):
    """20,000 draws among 10 parts of equal probability (of counts: as it comes), 5 standard errors for each."""
    mixture, draws = mixture_of(family, values), 20_000
    edges = mixture.icdf(torch.linspace(0.1, 0.9, 9, dtype=torch.double)).unique()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = mixture.sample((draws,))
    probability = torch.cat([mixture.cdf(edges), torch.ones(1)]).diff(prepend=torch.zeros(1).double())
    part = torch.searchsorted(edges, y)  # the first edge that is not below
    share = torch.bincount(part, minlength=len(edges) + 1) / draws
    error = (probability * (1 - probability) / draws).clamp_min(0).sqrt()
    assert bool(((share - probability).abs() <= 5 * error + 1e-9).all())


def three_targets(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, loc = torch.randn(3, generator=generator).double(), torch.randn(3, 3, generator=generator).double()
    scale = (0.5 * torch.randn(3, 3, generator=generator).double()).exp()
    if kind == "diagonal":
        return Mixture.multivariate_normal(logits, loc, scale)
    if kind == "full":
        lower = torch.eye(3).double() + torch.randn(3, 3, 3, generator=generator).double().tril(-1)
        return Mixture.multivariate_normal(logits, loc, scale[..., None] * lower)
    factor = torch.randn(3, 3, 1, generator=generator).double()
    return Mixture(dist.Categorical(logits=logits), dist.LowRankMultivariateNormal(loc, factor, scale**2))


@pytest.mark.parametrize("kind", ["diagonal", "full", "low_rank"])
@common
@given(seed=st.integers(0, 10_000), order=st.permutations(range(3)), point=lists(3, -3, 3))
def test_densities_multiply_in_any_order_of_the_targets(kind, seed, order, point):
    """p(a) p(b | a) p(c | a, b) = p(a, b, c), and conditioning twice is conditioning on both."""
    mixture, y = three_targets(kind, seed), torch.tensor(point, dtype=torch.double)
    a, b, c = order
    given_a = mixture.conditional(a, y[a])
    rest = [d for d in range(3) if d != a]
    given_both = mixture.conditional([a, b], y[[a, b]])
    p_a = mixture.marginal(a).log_prob(y[a])
    p_b = given_a.marginal(rest.index(b)).log_prob(y[b])
    torch.testing.assert_close(p_a + p_b, mixture.marginal([a, b]).log_prob(y[[a, b]]))
    torch.testing.assert_close(p_a + p_b + given_both.log_prob(y[c]), mixture.log_prob(y))
    twice = given_a.conditional(rest.index(b), y[b])
    torch.testing.assert_close(twice.log_prob(y[c]), given_both.log_prob(y[c]))
    torch.testing.assert_close(twice.mean, given_both.mean)
    torch.testing.assert_close(twice.variance, given_both.variance)


@fewer
@given(seed=st.integers(0, 10_000))
def test_a_marginal_is_the_average_of_conditionals(seed):
    """E_a[p(b | a)] over draws of a, at the quartiles of b, within 5 standard errors of p(b)."""
    mixture = three_targets("full", seed)
    b = mixture.marginal(1)
    at = b.icdf(torch.tensor([0.25, 0.5, 0.75]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a = mixture.marginal(0).sample((4000,))
    found = mixture.conditional(0, a).marginal(0).log_prob(at[:, None]).exp()
    error = found.std(1) / math.sqrt(4000)
    assert bool(((found.mean(1) - b.log_prob(at).exp()).abs() < 5 * error).all())


# What must not depend on how it is written


def rewritten(values, index, share, order):
    """One component divided in two equal ones, and all of them in another order."""
    halves = values[:, index : index + 1].repeat(1, 2)
    halves[0] += torch.tensor([share, 1 - share], dtype=torch.double).log()
    together = torch.cat([values[:, :index], values[:, index + 1 :], halves], 1)
    return together[:, torch.tensor(order) if order else torch.arange(together.shape[1])]


@families
@common
@given(data=st.data())
def test_nothing_depends_on_dividing_or_permuting_components(family, data):
    values = data.draw(numbers())
    count = values.shape[1]
    index, share = data.draw(st.integers(0, count - 1)), data.draw(st.floats(0.01, 0.99))
    order = data.draw(st.permutations(range(count + 1)))
    one, other = mixture_of(family, values), mixture_of(family, rewritten(values, index, share, order))
    y = one.icdf(torch.tensor([0.05, 0.3, 0.5, 0.9], dtype=torch.double))
    for name in ("log_prob", "cdf", "sf"):
        torch.testing.assert_close(getattr(other, name)(y), getattr(one, name)(y))
    for name in ("mean", "variance", "within_component", "between_component"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-9)


@families
@fewest
@given(data=st.data())
def test_neither_do_modes_and_regions(family, data):
    values = data.draw(numbers(most=3))
    count = values.shape[1]
    order = data.draw(st.permutations(range(count + 1)))
    one, other = mixture_of(family, values), mixture_of(family, rewritten(values, count - 1, 0.3, order))
    region, again = one.hdr(0.7), other.hdr(0.7)
    width = math.sqrt(float(one.variance))
    torch.testing.assert_close(again.lower, region.lower, rtol=0, atol=1e-5 * width)
    torch.testing.assert_close(again.upper, region.upper, rtol=0, atol=1e-5 * width)
    modes, again = one.modes(min_probability=0.01), other.modes(min_probability=0.01)
    torch.testing.assert_close(again.location, modes.location, rtol=0, atol=1e-5 * width)
    torch.testing.assert_close(again.probability, modes.probability, rtol=0, atol=1e-6)


@movable
@common
@given(data=st.data())
def test_the_variance_splits_as_before_when_components_or_draws_are_divided(family, data):
    """Noise, ambiguity and epistemic: draws that divide the same component, and a draw that is there twice."""
    draws = torch.stack([data.draw(numbers(most=1)) for _ in range(3)])
    extra = torch.stack([data.draw(numbers(most=1)) for _ in range(3)])
    values = torch.cat([draws, extra], -1)  # (3 draws, 3 rows, 2 components)
    share = data.draw(st.floats(0.01, 0.99))
    one = PredictiveMixture.from_draws(mixture_of(family, values))
    divided = torch.stack([rewritten(v, 0, share, (2, 0, 1)) for v in values])
    twice = torch.cat([values, values[2:]])
    weights = torch.tensor([1.0, 1.0, share, 1 - share], dtype=torch.double).log()
    others = (
        PredictiveMixture.from_draws(mixture_of(family, divided)),
        PredictiveMixture.from_draws(mixture_of(family, twice), weights),
        PredictiveMixture.from_draws(mixture_of(family, values[[2, 0, 1]])),
    )
    for other, name in itertools.product(others, ("noise", "ambiguity", "epistemic", "variance", "mean")):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.noise + one.ambiguity + one.epistemic, one.variance)


@movable
@common
@given(values=numbers(), loc=st.floats(-1e3, 1e3), log_scale=st.floats(-7, 7))
def test_densities_and_quantiles_move_with_the_units(family, values, loc, log_scale):
    """To 1e-5 of the standard deviation, beside rounding of the new location."""
    one, factor = mixture_of(family, values), math.exp(log_scale)
    other = one.affine(loc, factor)
    width = float(one.variance.sqrt())
    tolerance = {"rtol": 0, "atol": 1e-5 * width + 1e-11 * abs(loc) / factor}

    def back(moved):
        return (moved - loc) / factor

    levels = torch.tensor([1e-3, 0.2, 0.5, 0.8, 0.999], dtype=torch.double)
    torch.testing.assert_close(back(other.icdf(levels)), one.icdf(levels), **tolerance)
    y = one.icdf(levels)
    torch.testing.assert_close(other.log_prob(loc + factor * y), one.log_prob(y) - log_scale, rtol=0, atol=1e-6)


@movable
@fewest
@given(values=numbers(most=3), loc=st.floats(-1e3, 1e3), log_scale=st.floats(-7, 7))
def test_modes_and_regions_move_with_the_units(family, values, loc, log_scale):
    """To 1e-5 of the standard deviation, beside rounding of the new location."""
    one, factor = mixture_of(family, values), math.exp(log_scale)
    other = one.affine(loc, factor)
    tolerance = {"rtol": 0, "atol": 1e-5 * float(one.variance.sqrt()) + 1e-11 * abs(loc) / factor}

    def back(moved):
        return (moved - loc) / factor

    here, there = one.modes(min_probability=0.01), other.modes(min_probability=0.01)
    torch.testing.assert_close(back(there.location), here.location, **tolerance)
    torch.testing.assert_close(there.probability, here.probability, rtol=0, atol=1e-6)
    here, there = one.hdr(0.8), other.hdr(0.8)
    torch.testing.assert_close(back(there.lower), here.lower, **tolerance)
    torch.testing.assert_close(back(there.upper), here.upper, **tolerance)


@movable
@common
@given(values=numbers(), first=st.floats(0.1, 10), second=st.floats(0.1, 10))
def test_a_temperature_of_1_changes_nothing_and_temperatures_multiply(family, values, first, second):
    mixture = mixture_of(family, values)
    y = mixture.icdf(torch.tensor([0.01, 0.5, 0.99], dtype=torch.double))
    torch.testing.assert_close(mixture.tempered(1.0).log_prob(y), mixture.log_prob(y), rtol=1e-14, atol=1e-14)
    twice, once = mixture.tempered(first).tempered(second), mixture.tempered(first * second)
    torch.testing.assert_close(twice.log_prob(y), once.log_prob(y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["diagonal", "full", "low_rank"])
def test_a_temperature_of_1_changes_nothing_for_several_targets(kind):
    mixture, y = three_targets(kind, 0), torch.randn(5, 3, dtype=torch.double)
    torch.testing.assert_close(mixture.tempered(1.0).log_prob(y), mixture.log_prob(y), rtol=1e-12, atol=1e-12)


# Extreme numbers


def extreme(family, components, dtype, seed):
    """Scales from 1e-6 to 1e6 (of log-normals, counts and angles: what they bear), weights down to 1e-30."""
    generator = torch.Generator().manual_seed(seed)
    logits = -69.0 * torch.rand(components, generator=generator, dtype=torch.double)
    logits[0] = 0.0
    power = 6 * (2 * torch.rand(components, generator=generator, dtype=torch.double) - 1)
    power[-1] = 6.0 if seed % 2 else -6.0
    width, centre = 10**power, 10 * torch.randn(components, generator=generator, dtype=torch.double)
    made = {
        "normal": lambda: dist.Normal(centre.to(dtype), width.to(dtype)),
        "laplace": lambda: dist.Laplace(centre.to(dtype), width.to(dtype)),
        "student_t": lambda: dist.StudentT(5.0, centre.to(dtype), width.to(dtype)),
        "log_normal": lambda: dist.LogNormal(centre.to(dtype) / 10, (10 ** (power / 6 - 1)).to(dtype)),
        "poisson": lambda: dist.Poisson((10 ** (power / 2)).to(dtype)),
        "von_mises": lambda: dist.VonMises((centre / 10).clamp(-3, 3).to(dtype), (10 ** (power / 2)).to(dtype)),
    }
    return Mixture(dist.Categorical(logits=logits.to(dtype)), made[family]())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("components", [1, 100])
@families
def test_numbers_stay_finite_and_probabilities_in_their_range(family, components, dtype):
    levels = torch.tensor([1e-5, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-5], dtype=dtype)
    for seed in range(6):
        mixture = extreme(family, components, dtype, seed)
        y = mixture.icdf(levels)
        assert y.dtype == dtype
        assert bool(y.isfinite().all())
        assert bool((y.diff() >= 0).all())
        below, above, density = mixture.cdf(y), mixture.sf(y), mixture.log_prob(y)
        for probability in (below, above):
            assert bool(((probability >= 0) & (probability <= 1 + 4 * torch.finfo(dtype).eps)).all())
        torch.testing.assert_close(below + above, torch.ones_like(below), rtol=0, atol=1e-5)
        assert bool(density.isfinite().all())
        shares = mixture.responsibilities(y)
        torch.testing.assert_close(shares.sum(-1), torch.ones_like(density))
        for moment in (mixture.mean, mixture.variance, mixture.within_component, mixture.between_component):
            assert bool(moment.isfinite())
        assert float(mixture.variance) >= 0
        sample = mixture.sample((100,))
        assert sample.dtype == dtype
        assert bool(sample.isfinite().all())
        assert bool(mixture.log_prob(sample).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("components", [1, 100])
@families
def test_modes_and_regions_are_found_among_extreme_components(family, components, dtype):
    mixture = extreme(family, components, dtype, 1)
    modes, region = mixture.modes(min_probability=1e-3), mixture.hdr(0.9)
    assert int(modes.count) >= 1
    assert bool(modes.location.isfinite().all())
    assert float(modes.probability.sum()) <= 1 + 1e-5
    assert int(region.count) >= 1
    assert bool((region.upper >= region.lower).all())
    assert float(region.probability) == pytest.approx(0.9, abs=1e-5) or family == "poisson"
    assert float(region.probability) >= 0.9 - 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("components", [1, 100])
@pytest.mark.parametrize("family", ["normal", "laplace", "student_t"])
def test_gradients_are_finite_for_extreme_components(family, components, dtype):
    """Of the log density at samples, by all parameters."""
    for seed in range(6):
        mixture = extreme(family, components, dtype, seed)
        own = mixture.component_distribution
        leaves = [t.clone().requires_grad_() for t in (mixture.log_weights, own.loc, own.scale)]
        made = {"normal": dist.Normal, "laplace": dist.Laplace, "student_t": lambda m, s: dist.StudentT(5.0, m, s)}
        again = Mixture(dist.Categorical(logits=leaves[0]), made[family](*leaves[1:]))
        found = torch.autograd.grad(again.log_prob(mixture.sample((50,))).sum(), leaves)
        assert all(bool(g.isfinite().all()) for g in found)


# Batches


@families
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1, 3)])
def test_a_batch_of_any_rank_is_its_rows(family, batch):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(*batch, 3, 4, generator=generator, dtype=torch.double)
    mixture = mixture_of(family, values)
    y, u = mixture.icdf(0.3), torch.full(batch, 0.8, dtype=torch.double)
    for name in ("mean", "variance", "within_component", "between_component"):
        assert getattr(mixture, name).shape == batch
    for name in ("log_prob", "cdf", "sf"):
        assert getattr(mixture, name)(y).shape == batch
    assert mixture.icdf(u).shape == mixture.entropy(10).shape == batch
    assert mixture.sample((2, 5)).shape == (2, 5, *batch)
    region, modes = mixture.hdr(0.5), mixture.modes()
    assert region.probability.shape == region.count.shape == modes.count.shape == batch
    for place in itertools.product(*(range(n) for n in batch)):
        alone = mixture_of(family, values[place])
        torch.testing.assert_close(mixture.log_prob(y)[place], alone.log_prob(y[place]))
        torch.testing.assert_close(mixture.icdf(u)[place], alone.icdf(u[place]))
        torch.testing.assert_close(region.length[place], alone.hdr(0.5).length)
        assert modes.count[place] == alone.modes().count


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_an_empty_batch_has_empty_answers(batch):
    """torch's own check of logits cannot reshape what has no elements."""
    mixture = mixture_head(3)(torch.zeros(*batch, 9))
    for found in (
        mixture.mean,
        mixture.variance,
        mixture.log_prob(torch.zeros(batch)),
        mixture.cdf(torch.zeros(batch)),
    ):
        assert found.shape == batch
    assert mixture.sample((4,)).shape == (4, *batch)
    assert mixture.icdf(0.5).shape == batch
