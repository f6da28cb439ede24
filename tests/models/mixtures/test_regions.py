"""Modes and highest-density regions, against dense grids and closed forms. All in double precision, no sampling."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, signal, stats

from posterity.models import Mixture
from posterity.models.mixtures import many


def random_mixture(*batch, components=4, seed=0, dtype=torch.double, family="normal"):
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = torch.randn(3, *batch, components, generator=generator, dtype=dtype)
    families = {
        "normal": lambda: dist.Normal(3 * loc, log_scale.exp()),
        "laplace": lambda: dist.Laplace(3 * loc, log_scale.exp()),
        "student_t": lambda: dist.StudentT(4.0, 3 * loc, log_scale.exp()),
        "log_normal": lambda: dist.LogNormal(loc, 0.3 * log_scale.exp()),
    }
    return Mixture(dist.Categorical(logits=logits), families[family]())


def on_a_grid(mixture, points=400_001):
    """Locations of the local maxima of the density between extreme quantiles; a single mixture."""
    low, high = (float(mixture.icdf(p)) for p in (1e-4, 1 - 1e-4))
    x = torch.linspace(low, high, points, dtype=torch.double)
    height = mixture.log_prob(x)
    return x[signal.argrelmax(height.numpy())[0]], x, height


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
@pytest.mark.parametrize("seed", range(5))
def test_modes_are_those_of_a_dense_grid(family, seed):
    mixture = random_mixture(seed=seed, components=5, family=family)
    expected, x, _ = on_a_grid(mixture)
    modes = mixture.modes()
    found = modes.location.sort().values
    found = found[(found > x[0]) & (found < x[-1])]
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * float(x[1] - x[0]))
    assert float(modes.probability.sum()) == pytest.approx(1, abs=1e-9)
    assert bool((modes.log_density.diff() <= 0).all())


def test_a_modes_probability_is_what_lies_between_the_minima():
    mixture = random_mixture(seed=3, components=3)
    modes = mixture.modes()
    order = modes.location.argsort()
    location, probability = modes.location[order], modes.probability[order]
    assert len(location) > 1
    cuts = [
        optimize.minimize_scalar(lambda v: float(mixture.log_prob(torch.tensor(v))), bounds=(float(a), float(b)),
                                 method="bounded", options={"xatol": 1e-10}).x
        for a, b in itertools.pairwise(location)
    ]  # fmt: skip
    edges = [0.0, *(float(mixture.cdf(torch.tensor(c, dtype=torch.double))) for c in cuts), 1.0]
    np.testing.assert_allclose(probability, np.diff(edges), atol=1e-6)


@pytest.mark.parametrize(("apart", "count"), [(1.0, 1), (1.99, 1), (2.05, 2), (8.0, 2)])
def test_two_equal_normals_merge_within_two_standard_deviations(apart, count):
    """de Helguero 1904: bimodal if and only if the means are more than two standard deviations apart."""
    loc = torch.tensor([-apart / 2, apart / 2], dtype=torch.double)
    assert int(Mixture.normal(torch.zeros(2), loc, torch.ones(2)).modes().count) == count


def test_a_narrow_component_of_small_weight_is_a_mode_and_can_be_left_out():
    weights = torch.tensor([1 - 1e-6, 1e-6, 1e-30], dtype=torch.double)
    mixture = Mixture.normal(weights.log(), torch.tensor([0.0, 0.5, 1e3]), torch.tensor([1.0, 1e-7, 1.0]))
    modes = mixture.modes()
    torch.testing.assert_close(modes.location.sort().values, torch.tensor([0.0, 0.5, 1e3], dtype=torch.double))
    assert mixture.modes(min_probability=1e-9).count == 2
    assert mixture.modes(min_probability=0.5).location.tolist() == pytest.approx([0.0], abs=1e-6)


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


def test_many_components_use_the_quantiles_of_the_mixture():
    """A posterior's predictive of 1,000 draws, 3 components each."""
    mixture = random_mixture(components=3, seed=5)
    loc, scale = mixture.component_distribution.loc, mixture.component_distribution.scale
    jitter = 1e-3 * torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    several = Mixture.normal(
        mixture.log_weights.expand(1000, 3).reshape(-1), (loc + jitter * scale).reshape(-1), scale.repeat(1000)
    )
    x = torch.linspace(-12, 12, 16_001, dtype=torch.double)
    height = torch.cat([several.log_prob(part) for part in x.split(500)])
    peaks = x[signal.argrelmax(height.numpy())[0]]
    torch.testing.assert_close(several.modes(min_probability=0.01).location.sort().values, peaks, rtol=0, atol=1.5e-3)
    region = several.hdr(0.8)
    assert float(region.probability) == pytest.approx(0.8, abs=1e-7)
    assert float((height.exp() * (x[1] - x[0]))[region.contains(x)].sum()) == pytest.approx(0.8, abs=2e-3)
    torch.testing.assert_close(
        several.log_prob(region.upper), region.log_density.expand(region.upper.shape), atol=1e-8, rtol=0
    )
    main = mixture.modes(min_probability=0.01).location
    torch.testing.assert_close(several.modes(min_probability=0.01).location, main, rtol=0, atol=2e-2)
    torch.testing.assert_close(several.hdr(0.8).lower, mixture.hdr(0.8).lower, rtol=0, atol=2e-2)


def test_densities_in_blocks_are_those_of_the_mixture_wherever_they_are_small():
    """Against `log_prob` and the distribution functions, from the middle to 60 scales away, and at no number."""
    mixture = random_mixture(7, components=300, seed=3)
    ends = torch.tensor([0.0, 1.0, 8.0, 60.0, 1e3, 1e4, math.inf, -math.inf]).double()[:, None]
    for value in (
        ends + torch.linspace(0, 1, 7),
        torch.linspace(-9, 9, 700).double()[:, None] + torch.linspace(0, 1, 7),
    ):
        finite = value.isfinite()
        expected = mixture.log_prob(value.nan_to_num(0.0, 0.0, 0.0)).masked_fill(~finite, -math.inf)
        torch.testing.assert_close(many.log_density(mixture, value), expected, rtol=1e-12, atol=1e-12)
    low, high = (
        torch.tensor([-math.inf, -math.inf, -1.0, 9.0, 30.0]),
        torch.tensor([math.inf, 0.5, 1.0, math.inf, 31.0]),
    )
    found = many.between(mixture, *(end.double()[:, None].expand(5, 7) for end in (low, high)))
    zero = torch.zeros(7).double()
    cdf, sf = mixture.cdf, mixture.sf
    above = [sf(zero + 9), sf(zero + 30) - sf(zero + 31)]
    expected = torch.stack([zero + 1, cdf(zero + 0.5), cdf(zero + 1) - cdf(zero - 1), *above])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_modes_and_regions_of_very_many_components_ask_for_few_densities(monkeypatch):
    """Points at which all components are asked, a row: about 2,080 for the search, the rest to refine."""
    asked = []
    blocked = many._blocked
    monkeypatch.setattr(many, "_blocked", lambda f, v, k: asked.append(int(v.isfinite().sum())) or blocked(f, v, k))
    mixture = random_mixture(3, components=600, seed=2)
    mixture.modes(min_probability=0.05)
    modes, asked[:] = sum(asked), []
    mixture.hdr(0.9)
    assert modes / 3 < 4000
    assert sum(asked) / 3 < 5000


@pytest.mark.parametrize("seed", range(4))
def test_modes_of_two_targets_are_those_of_a_dense_grid(seed):
    generator = torch.Generator().manual_seed(seed)
    loc = 2.5 * torch.randn(4, 2, generator=generator, dtype=torch.double)
    raw = torch.randn(4, 2, 2, generator=generator, dtype=torch.double)
    tril = 0.5 * raw.tril(-1) + torch.diag_embed((0.3 * raw.diagonal(dim1=-2, dim2=-1)).exp())
    mixture = Mixture.multivariate_normal(torch.randn(4, generator=generator, dtype=torch.double), loc, tril)
    side = torch.linspace(-9, 9, 901, dtype=torch.double)
    height = mixture.log_prob(torch.stack(torch.meshgrid(side, side, indexing="ij"), -1))
    inner = height[1:-1, 1:-1]
    around = torch.stack([height[1 + i : 900 + i, 1 + j : 900 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    peaks = (inner > around.amax(0)).nonzero() + 1
    expected = side[peaks]
    modes = mixture.modes()
    apart = torch.cdist(modes.location[: int(modes.count)], expected)
    # A slanting ridge has neighbours on the grid that are both maxima of it: each has to be near a mode, and back.
    assert float(apart.amin(1).max()) < 0.06
    assert float(apart.amin(0).max()) < 0.06
    assert float(modes.probability.nansum()) == pytest.approx(1)


def test_a_mean_on_a_saddle_is_no_mode():
    """The middle one of three components has its mean between the two others and hardly any weight."""
    loc = torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], dtype=torch.double)
    weights = torch.tensor([0.5, 1e-9, 0.5], dtype=torch.double)
    modes = Mixture.multivariate_normal(weights.log(), loc, torch.ones(3, 2, dtype=torch.double)).modes()
    assert int(modes.count) == 2
    torch.testing.assert_close(modes.location[:2, 0].abs(), modes.location[:2, 0].abs().mean().expand(2))


# Highest-density regions


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
    """Of the first of its own ends; and of draws it is less inside, more outside."""
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
    """Kolmogorov and Smirnov, p above 1e-4 with 2,000 draws of seed 0; of scales a fifth too small it is below."""
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
    with pytest.raises(ValueError, match=r"expected a value for each mixture, of shape \(3,\), got \(2,\)"):
        mixture.hdr_level(torch.zeros(2))
    several = Mixture.multivariate_normal(torch.zeros(2), torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="hdr_level"):
        several.hdr_level(torch.zeros(2))
    assert random_mixture(3, components=2, dtype=torch.float32).hdr_level(torch.zeros(3)).dtype == torch.float32
    assert Mixture.normal(torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(0, 2)).hdr_level(torch.zeros(0)).shape == (
        0,
    )


# Counts


def test_the_level_of_a_count_is_the_mass_of_those_no_less_likely():
    for row, count in ((0, 3.0), (1, 60.0)):
        mass = masses(row)
        expected = mass[mass >= mass[int(count)] * (1 - 1e-12)].sum()
        found = poisson_mixture().hdr_level(torch.full((2,), count, dtype=torch.double))[row]
        assert float(found) == pytest.approx(expected, abs=1e-9)


def poisson_mixture():
    return Mixture(
        dist.Categorical(logits=torch.tensor([[0.0, 1.0], [0.3, -0.2]], dtype=torch.double)),
        dist.Poisson(torch.tensor([[0.4, 12.0], [30.0, 90.5]], dtype=torch.double)),
    )


def masses(row):
    mixture = poisson_mixture()
    weights, rate = mixture.log_weights.exp()[row].numpy(), mixture.component_distribution.rate[row].numpy()
    return (weights * stats.poisson.pmf(np.arange(400)[:, None], rate)).sum(-1)


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


# Angles


def von_mises_mixture():
    return Mixture(
        dist.Categorical(logits=torch.tensor([0.0, 0.5, -1.0], dtype=torch.double)),
        dist.VonMises(torch.tensor([3.0, 0.2, -1.5]).double(), torch.tensor([4.0, 20.0, 3.0]).double()),
    )


def test_angles_have_circular_moments():
    mixture = von_mises_mixture()
    x = torch.linspace(-math.pi, math.pi, 200_001, dtype=torch.double)[:-1]
    weight = mixture.log_prob(x).exp() * (x[1] - x[0])
    resultant = torch.complex((weight * x.cos()).sum(), (weight * x.sin()).sum())
    torch.testing.assert_close(mixture.mean, resultant.angle())
    torch.testing.assert_close(mixture.variance, 1 - resultant.abs())
    assert float(mixture.between_component) > 0
    whole = mixture.within_component + mixture.between_component
    torch.testing.assert_close(whole, mixture.variance)


def test_angles_have_modes_around_the_circle_and_quantiles_on_it():
    mixture = von_mises_mixture()
    x = torch.linspace(-math.pi, math.pi, 400_001, dtype=torch.double)[:-1]
    height = mixture.log_prob(x).numpy()
    expected = sorted(x[signal.argrelmax(height, mode="wrap")[0]].tolist())
    modes = mixture.modes()
    assert sorted(modes.location.tolist()) == pytest.approx(expected, abs=1e-4)
    lows = x[signal.argrelmin(height, mode="wrap")[0]]
    edges = mixture.cdf(lows.sort().values)
    inner = edges.diff()
    expected_probability = sorted([*inner.tolist(), float(1 - inner.sum())])
    assert sorted(modes.probability.tolist()) == pytest.approx(expected_probability, abs=1e-4)
    p = torch.tensor([0.01, 0.3, 0.5, 0.99], dtype=torch.double)
    torch.testing.assert_close(mixture.cdf(mixture.icdf(p)), p)
    region = mixture.hdr(0.7)
    assert float(region.probability) == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.modes(min_probability=1.0), r"expected a least probability in \[0, 1\), got 1.0"),
        (lambda m: m.hdr(1.0), r"expected a level in \(0, 1\), got 1.0"),
        (lambda m: m.hdr(-0.5), r"expected a level in \(0, 1\), got -0.5"),
    ],
)
def test_bad_levels_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mixture())


def test_several_targets_have_no_regions_and_others_than_normals_no_modes():
    both = dist.Laplace(torch.zeros(3, 2), torch.ones(3, 2)).to_event(1)
    mixture = Mixture(dist.Categorical(logits=torch.zeros(3)), both)
    with pytest.raises(ValueError, match=r"expected one target dimension for hdr, got event shape \(2,\)"):
        mixture.hdr(0.5)
    with pytest.raises(ValueError, match="expected normal components of several targets"):
        mixture.modes()


def test_a_region_holds_both_its_ends():
    """Of two intervals: their ends are inside, what lies between and beyond them is not."""
    region = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(0.1)).hdr(0.9)
    assert int(region.count) == 2
    ends = torch.cat([region.lower, region.upper])
    assert all(bool(region.contains(end)) for end in ends)
    assert not bool(region.contains(torch.tensor(0.0)))
    assert not bool(region.contains(ends.max() + 1e-3))


@pytest.mark.parametrize("rate", [1e6, 1.9e7, 1e9])
def test_quantiles_of_counts_that_float32_cannot_all_hold(rate):
    """Above 2**24 the next number is more than one count away, and halving has to end."""
    counts = Mixture(dist.Categorical(torch.ones(3, 1)), dist.Poisson(torch.full((3, 1), rate)))
    level = torch.tensor([0.1, 0.5, 0.9])
    found = counts.icdf(level).double()
    np.testing.assert_allclose(stats.poisson.cdf(found.numpy(), rate), level.numpy(), atol=1e-3)
