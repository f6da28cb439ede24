"""Properties of all mixtures: laws of probability, invariance to splits and order of components, extreme numbers.

Numbers are drawn by hypothesis, the same ones in every run. Integrals are by Gauss-Legendre quadrature in double
precision between neighbouring quantiles of the components, so that no narrow or far one is missed.
"""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterity.models import Mixture, mixture_head, tails
from tests.mixture_cases import (
    NODES,
    WEIGHTS,
    common,
    continuous,
    extreme,
    families,
    fewer,
    integral,
    mixture_of,
    movable,
    numbers,
    rewritten,
    three_targets,
)


@families
@common
@given(values=numbers())
def test_the_density_integrates_to_1(family, values):
    # torch's series for the Bessel function of an angle's density has errors of 2e-7.
    tolerance = 1e-6 if family == "von_mises" else 1e-8
    assert float(integral(mixture_of(family, values), torch.ones_like)) == pytest.approx(1, abs=tolerance)


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
@fewer
@given(values=numbers())
def test_samples_have_the_probabilities_between_quantiles(family, values):
    """20,000 draws in 10 intervals of equal probability (for counts, nearly), within 5 standard errors each."""
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


@movable
@common
@given(values=numbers(), loc=st.floats(-1e3, 1e3), log_scale=st.floats(-7, 7))
def test_densities_and_quantiles_move_with_the_units(family, values, loc, log_scale):
    """To 1e-5 of the standard deviation plus the rounding error of the new location."""
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
    """torch's check of logits cannot reshape empty tensors."""
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
