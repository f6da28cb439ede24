"""Highest-density regions, against dense grids and closed forms. All in double precision, without sampling."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from posterity.models import Mixture, mixture_head
from tests.mixture_cases import (
    extreme,
    families,
    fewest,
    masses,
    mixture_of,
    movable,
    numbers,
    on_a_grid,
    poisson_mixture,
    random_mixture,
    rewritten,
)


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_no_rows_have_no_regions_and_no_modes(batch):
    normal = Mixture.normal(torch.zeros(*batch, 2), torch.zeros(*batch, 2), torch.ones(*batch, 2))
    several = Mixture.multivariate_normal(torch.zeros(*batch, 2), torch.zeros(*batch, 2, 3), torch.ones(*batch, 2, 3))
    counts = mixture_head(2, family="poisson")(torch.zeros(*batch, 4))
    for mixture in (normal, counts):
        region = mixture.hdr(0.5)
        assert region.lower.shape == (*batch, 1)
        assert region.probability.shape == region.count.shape == batch
        assert mixture.modes().location.shape == (*batch, 1)
        assert mixture.hdr_level(torch.zeros(batch)).shape == batch
    assert several.modes().location.shape == (*batch, 1, 3)


def test_levels_of_what_a_mixture_cannot_say_are_refused():
    normal = Mixture.normal(torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="Expected value argument"):
        normal.hdr_level(torch.tensor([0.0, math.nan]))
    counts = Mixture(dist.Categorical(logits=torch.zeros(1)), dist.Poisson(torch.tensor([0.1])))
    for bad in (-1.0, 2.5):
        with pytest.raises(ValueError, match="Expected value argument"):
            counts.hdr_level(torch.tensor(bad))
    assert float(counts.hdr_level(torch.tensor(0.0))) == pytest.approx(math.exp(-0.1))


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
@fewest
@given(values=numbers(most=3), loc=st.floats(-1e3, 1e3), log_scale=st.floats(-7, 7))
def test_modes_and_regions_move_with_the_units(family, values, loc, log_scale):
    """To 1e-5 of the standard deviation plus the rounding error of the new location."""
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


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("components", [1, 100])
def test_modes_and_regions_have_units(scale, components):
    one = random_mixture(components=components, seed=1)
    other = one.affine(0.0, scale)
    torch.testing.assert_close(other.modes().location / scale, one.modes().location, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other.hdr(0.7).lower / scale, one.hdr(0.7).lower, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_rows_are_independent_and_padded(batch):
    mixture = random_mixture(*batch, seed=2).to(torch.float32)
    modes, region = mixture.modes(), mixture.hdr(0.6)
    assert modes.location.shape[:-1] == modes.count.shape == region.probability.shape == batch
    assert modes.location.dtype == region.lower.dtype == torch.float32
    if batch == (2, 3):
        for i, j in ((0, 0), (1, 2)):
            alone = mixture[i, j].modes().location
            torch.testing.assert_close(modes.location[i, j][: len(alone)], alone)
            assert bool(modes.location[i, j][len(alone) :].isnan().all())
            alone = mixture[i, j].hdr(0.6).upper
            torch.testing.assert_close(region.upper[i, j][: len(alone)], alone)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.999])
def test_of_one_normal_it_is_the_central_interval(level):
    mixture = Mixture.normal(torch.zeros(1), torch.tensor([3.0]), torch.tensor([2.0])).to(torch.double)
    region, half = mixture.hdr(level), 2 * stats.norm.isf((1 - level) / 2)
    assert region.lower.tolist() == pytest.approx([3 - half], abs=1e-6)
    assert region.upper.tolist() == pytest.approx([3 + half], abs=1e-6)
    assert float(region.probability) == pytest.approx(level, abs=1e-8)


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
@pytest.mark.parametrize("level", [0.3, 0.9])
def test_regions_are_those_of_a_dense_grid(family, level):
    for seed in range(4):
        mixture = random_mixture(seed=seed, components=4, family=family)
        region = mixture.hdr(level)
        _, x, height = on_a_grid(mixture)
        order = height.argsort(descending=True)
        mass = (height.exp() * (x[1] - x[0]))[order].cumsum(0)
        cut = float(height[order][int((mass < level).sum())])
        assert float(region.log_density) == pytest.approx(cut, abs=2e-3)
        assert float(region.probability) == pytest.approx(level, abs=1e-7)
        lower, upper = region.lower, region.upper
        inside = mixture.cdf(upper) - mixture.cdf(lower)
        assert float(inside.sum()) == pytest.approx(level, abs=1e-7)
        for end in (lower, upper):
            torch.testing.assert_close(mixture.log_prob(end), region.log_density.expand(end.shape), atol=1e-5, rtol=0)
        torch.testing.assert_close(region.contains(x[::1000]), height[::1000] >= region.log_density)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.8, 0.95]))
def test_no_interval_between_quantiles_is_shorter(seed, level):
    mixture = random_mixture(3, seed=seed, components=3)
    region = mixture.hdr(level)
    ends = mixture.icdf(torch.tensor([[(1 - level) / 2], [(1 + level) / 2]]))
    assert bool((region.length <= (ends[1] - ends[0]) * (1 + 1e-6)).all())
    assert bool(((region.probability - level).abs() < 1e-7).all())
    assert bool((mixture.hdr(0.5 * level).length < region.length).all())


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
def test_the_level_of_a_value_is_that_of_the_region_it_borders(family):
    """Also for draws: the level is lower inside the region, higher outside."""
    mixture = random_mixture(6, 5, seed=1, components=4, family=family)
    for level in (0.05, 0.5, 0.99):
        region = mixture.hdr(level)
        expected = torch.full((6, 5), level, dtype=torch.double)
        torch.testing.assert_close(mixture.hdr_level(region.upper[..., 0]), expected, atol=1e-7, rtol=0)
        torch.manual_seed(0)
        draws = mixture.sample()
        assert torch.equal(mixture.hdr_level(draws) <= level, region.contains(draws))


def test_the_level_of_a_normals_value_has_a_closed_form():
    z = torch.tensor([0.0, 0.3, -1.0, 2.5, -9.0], dtype=torch.double)
    mixture = Mixture.normal(torch.zeros(5, 1).double(), torch.full((5, 1), 2.0), torch.full((5, 1), 3.0))
    torch.testing.assert_close(mixture.hdr_level(2 + 3 * z), 1 - 2 * torch.special.ndtr(-z.abs()), atol=1e-8, rtol=0)


def test_levels_of_draws_are_uniform_and_of_a_narrower_mixtures_not():
    """Kolmogorov and Smirnov, p above 1e-4 with 2,000 draws of seed 0, and below it with scales a fifth too small."""
    torch.manual_seed(0)
    logits, loc, log_scale = torch.randn(3, 2000, 4, dtype=torch.double)
    draws = Mixture.normal(logits, 3 * loc, log_scale.exp()).sample()
    assert stats.kstest(Mixture.normal(logits, 3 * loc, log_scale.exp()).hdr_level(draws), "uniform").pvalue > 1e-4
    narrow = Mixture.normal(logits, 3 * loc, 0.8 * log_scale.exp()).hdr_level(draws)
    assert stats.kstest(narrow, "uniform").pvalue < 1e-4


def test_levels_of_values_that_are_no_numbers_of_the_mixture():
    mixture = random_mixture(3, components=2)
    found = mixture.hdr_level(torch.tensor([math.inf, -math.inf, 1e300]).double())
    torch.testing.assert_close(found, torch.ones(3).double(), atol=1e-8, rtol=0)
    with pytest.raises(ValueError, match=r"expected value of shape \(3,\), one for each mixture, got \(2,\)"):
        mixture.hdr_level(torch.zeros(2))
    several = Mixture.multivariate_normal(torch.zeros(2), torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="hdr_level"):
        several.hdr_level(torch.zeros(2))
    assert random_mixture(3, components=2, dtype=torch.float32).hdr_level(torch.zeros(3)).dtype == torch.float32
    assert Mixture.normal(torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(0, 2)).hdr_level(torch.zeros(0)).shape == (
        0,
    )


def test_the_level_of_a_count_is_the_mass_of_those_no_less_likely():
    for row, count in ((0, 3.0), (1, 60.0)):
        mass = masses(row)
        expected = mass[mass >= mass[int(count)] * (1 - 1e-12)].sum()
        found = poisson_mixture().hdr_level(torch.full((2,), count, dtype=torch.double))[row]
        assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("row", [0, 1])
def test_counts_have_modes_regions_and_quantiles(row):
    mixture, mass = poisson_mixture(), masses(row)
    peaks = signal.argrelmax(np.concatenate([[0], mass]))[0] - 1
    modes = mixture.modes()
    assert sorted(modes.location[row][: int(modes.count[row])].tolist()) == peaks.tolist()
    region = mixture.hdr(0.8)
    order = np.argsort(-mass)
    wanted = sorted(order[: int((np.cumsum(mass[order]) < 0.8).sum()) + 1].tolist())
    inside = region.contains(torch.arange(400, dtype=torch.double)[:, None])[:, row]
    assert inside.nonzero().flatten().tolist() == wanted
    assert float(region.probability[row]) == pytest.approx(mass[wanted].sum(), abs=1e-9)
    for p in (0.0, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9):
        assert float(mixture.icdf(p)[row]) == int((np.cumsum(mass) < p * (1 - 1e-12)).sum())
    assert mixture.icdf(1.0)[row] == math.inf
    assert float(mixture.mean[row]) == pytest.approx((mass * np.arange(400)).sum())
    k = torch.tensor(7.0, dtype=torch.double)
    assert float(mixture.cdf(k)[row]) == pytest.approx(mass[:8].sum())
    assert float(mixture.sf(k)[row]) == pytest.approx(mass[8:].sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.modes(min_probability=1.0), r"expected min_probability to be a number in \[0, 1\), got 1.0"),
        (lambda m: m.hdr(1.0), r"expected level to be a number in \(0, 1\), got 1.0"),
        (lambda m: m.hdr(-0.5), r"expected level to be a number in \(0, 1\), got -0.5"),
    ],
)
def test_bad_levels_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mixture())


def test_several_targets_have_no_regions_and_others_than_normals_no_modes():
    both = dist.Laplace(torch.zeros(3, 2), torch.ones(3, 2)).to_event(1)
    mixture = Mixture(dist.Categorical(logits=torch.zeros(3)), both)
    with pytest.raises(ValueError, match=r"expected a scalar event for hdr, got event shape \(2,\)"):
        mixture.hdr(0.5)
    with pytest.raises(ValueError, match="expected normal components of several targets"):
        mixture.modes()


def test_a_region_holds_both_its_ends():
    """For two intervals: their ends are inside, points between and beyond them are not."""
    region = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(0.1)).hdr(0.9)
    assert int(region.count) == 2
    ends = torch.cat([region.lower, region.upper])
    assert all(bool(region.contains(end)) for end in ends)
    assert not bool(region.contains(torch.tensor(0.0)))
    assert not bool(region.contains(ends.max() + 1e-3))
